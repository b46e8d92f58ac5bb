#include "jailer.h"

#include <sys/socket.h>

enum { MAXIMUM = 32 };

long send_message(int socket, const void *bytes, size_t length, const int *descriptors, int count) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(MAXIMUM * sizeof(int))];
  } control;
  struct iovec vector = {(void *)(uintptr_t)bytes, length};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  if (count > 0) {
    memset(&control, 0, sizeof control);
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    memcpy(CMSG_DATA(header), descriptors, (size_t)count * sizeof(int));
  }
  long result;
  do result = sendmsg(socket, &message, MSG_NOSIGNAL);
  while (result < 0 && errno == EINTR);
  return result;
}

long receive_message(int socket, void *bytes, size_t size, int *descriptors, int *count) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(MAXIMUM * sizeof(int))];
  } control;
  struct iovec vector = {bytes, size};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  long result;
  do result = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  while (result < 0 && errno == EINTR);
  *count = 0;
  if (result < 0) return result;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    int number = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(descriptors, CMSG_DATA(header), (size_t)number * sizeof(int));
    *count = number;
  }
  if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
    for (int i = 0; i < *count; i++) close(descriptors[i]);
    *count = 0;
    errno = EMSGSIZE;
    return -1;
  }
  return result;
}

int parse_strings(const char *bytes, size_t length, struct request_strings *strings) {
  strings->count = 0;
  while (length > 0) {
    size_t end = strnlen(bytes, length);
    if (end == length || strings->count == JAILER_MAXIMUM_STRINGS) return -1;
    strings->strings[strings->count++] = bytes;
    bytes += end + 1;
    length -= end + 1;
  }
  return 0;
}
