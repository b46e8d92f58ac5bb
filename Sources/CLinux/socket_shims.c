#define _GNU_SOURCE
#include "socket_shims.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAXIMUM = 32 };

long thaw_seqpacket_pair(int *first, int *second) {
  int ends[2], on = 1;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return -errno;
  if (setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0) {
    long result = -errno;
    close(ends[0]);
    close(ends[1]);
    return result;
  }
  *first = ends[0];
  *second = ends[1];
  return 0;
}

long thaw_send_message(int socket, const void *bytes, size_t length, const int *descriptors, size_t count) {
  if (count > MAXIMUM) return -EINVAL;
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(MAXIMUM * sizeof(int))];
  } control;
  struct iovec vector = {(void *)bytes, length};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  if (count > 0) {
    memset(&control, 0, sizeof control);
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), descriptors, count * sizeof(int));
  }
  for (;;) {
    ssize_t result = sendmsg(socket, &message, MSG_NOSIGNAL);
    if (result >= 0) return result;
    if (errno != EINTR) return -errno;
  }
}

long thaw_receive_message(int socket, void *bytes, size_t length, int *descriptors, size_t *count, int *sender, int dont_wait) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(MAXIMUM * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
  } control;
  struct iovec vector = {bytes, length};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t result;
  do result = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | (dont_wait ? MSG_DONTWAIT : 0));
  while (result < 0 && errno == EINTR);
  size_t room = *count, came = 0;
  *count = 0;
  *sender = 0;
  if (result < 0) return -errno;
  // MSG_CTRUNC: this process is out of descriptors. The message is whole, so that its receiver can tell who misses them; none are given.
  int cut = (message.msg_flags & MSG_TRUNC) != 0, lost = (message.msg_flags & MSG_CTRUNC) != 0;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS) {
      struct ucred credentials;
      memcpy(&credentials, CMSG_DATA(header), sizeof credentials);
      *sender = credentials.pid;
    }
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t number = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < number; i++) {
      int descriptor;
      memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof descriptor);
      if (came < room && !cut && !lost) {
        descriptors[came++] = descriptor;
      } else {
        close(descriptor);
        if (!lost) cut = 1;
      }
    }
  }
  if (cut) {
    for (size_t i = 0; i < came; i++) close(descriptors[i]);
    return -EMSGSIZE;
  }
  *count = came;
  return result;
}
