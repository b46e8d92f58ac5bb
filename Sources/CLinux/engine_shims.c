#include "engine_shims.h"

#include <errno.h>
#include <linux/fs.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

long thaw_syscall(long number, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e, uintptr_t f) {
  long result = syscall(number, a, b, c, d, e, f);
  return result < 0 ? -errno : result;
}

long thaw_ptrace(long request, int tid, uintptr_t address, uintptr_t data) {
  long result = syscall(SYS_ptrace, request, (long)tid, address, data);
  return result < 0 ? -errno : result;
}

long thaw_wait_thread(int tid, int *status) {
  for (;;) {
    long result = waitpid(tid, status, __WALL);
    if (result >= 0) return result;
    if (errno != EINTR) return -errno;
  }
}

// The installed headers may be older than the running kernel: the layout is copied from linux/fs.h of 6.7.
struct scan_arguments {
  uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
  uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
_Static_assert(sizeof(struct scan_arguments) == 96, "struct pm_scan_arg");

long thaw_pagemap_scan(int pagemap, uint64_t start, uint64_t end, uint64_t any_of, uint64_t wanted,
                       struct thaw_page_region *out, size_t capacity, uint64_t *walk_end) {
  struct scan_arguments arguments = {
      .size = sizeof arguments,
      .start = start,
      .end = end,
      .vec = (uint64_t)(uintptr_t)out,
      .vec_len = capacity,
      .category_anyof_mask = any_of,
      .return_mask = wanted,
  };
  long result = ioctl(pagemap, _IOWR('f', 16, struct scan_arguments), &arguments);
  if (result < 0) return -errno;
  *walk_end = arguments.walk_end;
  return result;
}

long thaw_bytes_waiting(int descriptor) {
  int count = 0;
  return ioctl(descriptor, FIONREAD, &count) < 0 ? -errno : count;
}

long thaw_unix_sockets(struct thaw_unix_socket *out, size_t capacity) {
  int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (netlink < 0) return -errno;
  struct {
    struct nlmsghdr header;
    struct unix_diag_req request;
  } message = {
      .header = {.nlmsg_len = sizeof message,
                 .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
      .request = {.sdiag_family = AF_UNIX, .udiag_states = ~0U, .udiag_show = UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN},
  };
  long count = 0;
  if (send(netlink, &message, sizeof message, 0) < 0) goto failed;
  for (;;) {
    static _Thread_local char buffer[32768] __attribute__((aligned(8)));
    ssize_t length = recv(netlink, buffer, sizeof buffer, 0);
    if (length < 0) goto failed;
    for (struct nlmsghdr *item = (struct nlmsghdr *)buffer; NLMSG_OK(item, length); item = NLMSG_NEXT(item, length)) {
      if (item->nlmsg_type == NLMSG_DONE) {
        close(netlink);
        return count;
      }
      if (item->nlmsg_type == NLMSG_ERROR) {
        errno = -((struct nlmsgerr *)NLMSG_DATA(item))->error;
        goto failed;
      }
      struct unix_diag_msg *found = NLMSG_DATA(item);
      struct thaw_unix_socket socket = {.inode = found->udiag_ino};
      struct rtattr {
        unsigned short length, type;
      } *attribute = (void *)(found + 1);
      long rest = (long)item->nlmsg_len - NLMSG_LENGTH(sizeof *found);
      while (rest >= (long)sizeof *attribute && attribute->length >= sizeof *attribute && attribute->length <= rest) {
        if (attribute->type == UNIX_DIAG_PEER) memcpy(&socket.peer, attribute + 1, 4);
        if (attribute->type == UNIX_DIAG_SHUTDOWN) memcpy(&socket.shutdown, attribute + 1, 1);
        if (attribute->type == UNIX_DIAG_RQLEN) memcpy(&socket.queued, attribute + 1, 8); // struct unix_diag_rqlen: queued, backlog
        long step = (attribute->length + 3) & ~3;
        rest -= step;
        attribute = (void *)((char *)attribute + step);
      }
      if ((size_t)count >= capacity) {
        errno = ENOBUFS;
        goto failed;
      }
      out[count++] = socket;
    }
  }
failed:;
  int reason = errno;
  close(netlink);
  return -reason;
}

long thaw_peek_message(int socket, void *bytes, size_t length, int *carries) {
  union {
    struct cmsghdr header;
    char space[4096];
  } control;
  struct iovec vector = {bytes, length};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t result;
  do result = recvmsg(socket, &message, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC);
  while (result < 0 && errno == EINTR);
  if (result < 0) return -errno;
  *carries = 0;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    *carries = 1;
    for (size_t i = 0; i < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
      int descriptor;
      memcpy(&descriptor, CMSG_DATA(header) + i * sizeof descriptor, sizeof descriptor);
      close(descriptor);
    }
  }
  return result;
}

uint64_t thaw_xcr0(void) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return ((uint64_t)high << 32) | low;
}
