// For programs that check themselves across a snapshot: set something up, call wait_for_snapshot(), check it, answer.
// The test is the server on 127.0.0.1:9001 (inside the sandbox): it is sent "ready", sends "go" to each clone, and reads the answer.
#pragma once

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int harness_socket = -1;

static void harness_send(const char *text) {
  if (write(harness_socket, text, strlen(text)) < 0) _exit(70);
}

__attribute__((format(printf, 1, 2), noreturn)) static void failed(const char *format, ...) {
  char text[512] = "failed: ";
  va_list list;
  va_start(list, format);
  vsnprintf(text + 8, sizeof text - 10, format, list);
  va_end(list);
  strcat(text, "\n");
  harness_send(text);
  _exit(1);
}

#define CHECK(condition) \
  do { \
    if (!(condition)) failed("%s:%d: %s (errno %d)", __FILE__, __LINE__, #condition, errno); \
  } while (0)

static void wait_for_snapshot(void) {
  harness_socket = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(9001), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (connect(harness_socket, (struct sockaddr *)&address, sizeof address) < 0) _exit(71);
  harness_send("ready\n");
  char answer[16];
  ssize_t length = recv(harness_socket, answer, sizeof answer, 0);
  if (length < 3 || memcmp(answer, "go\n", 3) != 0) _exit(72);
}

__attribute__((noreturn)) static void succeeded(void) {
  harness_send("ok\n");
  char rest[16];
  // A timer's signal may interrupt it.
  while (read(harness_socket, rest, sizeof rest) > 0 || errno == EINTR) errno = 0;
  _exit(0);
}
