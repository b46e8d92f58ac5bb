// A process of a given size for the engine's benchmark: `scale MEGABYTES THREADS MAPPINGS`. For every "go" it writes to one megabyte of its memory and
// answers; "fork" does the same in a child, and answers how long that took to its first byte.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void *sleeps(void *unused) {
  for (;;) pause();
  return unused;
}

static char *memory;
static size_t bytes;

// The same pages each time, spread over the first ten megabytes, however large the rest.
static unsigned work(void) {
  const size_t pages = 256, step = (10u << 20) / pages;
  unsigned sum = 0;
  for (size_t i = 0; i < pages; i++) sum += (unsigned char)++memory[i * step];
  return sum;
}

static double microseconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static double forked(void) {
  int ends[2];
  char byte;
  if (pipe(ends) < 0) exit(1);
  double begin = microseconds();
  pid_t child = fork();
  if (child == 0) {
    byte = (char)work();
    _exit(write(ends[1], &byte, 1) != 1);
  }
  if (read(ends[0], &byte, 1) != 1) exit(1);
  double took = microseconds() - begin;
  int status;
  waitpid(child, &status, 0);
  close(ends[0]);
  close(ends[1]);
  return took;
}

int main(int count, char **arguments) {
  if (count != 4) return 64;
  bytes = (size_t)atol(arguments[1]) << 20;
  memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  uint64_t state = 1;
  for (size_t i = 0; i < bytes; i += 8) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    memcpy(memory + i, &state, 8);
  }
  for (long i = 0; i < atol(arguments[2]) - 1; i++) {
    pthread_t thread;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    if (pthread_create(&thread, &small, sleeps, NULL)) return 2;
  }
  // Neighbours with different protection do not become one mapping.
  for (long i = 0; i < atol(arguments[3]); i++) {
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return 3;
    *page = 1;
    if (mprotect(page + 4096, 4096, PROT_READ)) return 3;
  }
  int server = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(9001), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (connect(server, (struct sockaddr *)&address, sizeof address) < 0 || write(server, "ready\n", 6) != 6) return 4;
  char line[64];
  for (ssize_t got; (got = recv(server, line, sizeof line, 0)) > 0;) {
    char reply[96];
    int length = line[0] == 'f' ? snprintf(reply, sizeof reply, "{\"fork_us\": [%.1f]}\n", forked())
                                : snprintf(reply, sizeof reply, "{\"sum\": %u}\n", work());
    if (write(server, reply, (size_t)length) != length) return 5;
  }
  return 0;
}
