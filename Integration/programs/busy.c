// Threads that are never quiet: one computes with all kinds of registers, one calls the kernel, one moves bytes through a pipe.
#include "harness.h"

static volatile int stop;
struct work {
  uint64_t rounds, value;
  double sum;
};

static void *compute(void *argument) {
  struct work *work = argument;
  uint64_t rounds = 0, value = 1;
  double sum = 0;
  while (!stop) {
    for (int i = 0; i < 1000; i++) {
      value = value * 6364136223846793005u + 1442695040888963407u;
      sum += 0.5;
      rounds++;
    }
  }
  work->rounds = rounds, work->value = value, work->sum = sum;
  return NULL;
}

static void *call_kernel(void *argument) {
  struct work *work = argument;
  pid_t self = getpid();
  while (!stop) {
    if (syscall(SYS_getpid) != self || syscall(SYS_gettid) <= 0) work->value++;
    struct timespec short_time = {0, 1000};
    if (nanosleep(&short_time, NULL) != 0) work->value++;
    work->rounds++;
  }
  return NULL;
}

static void *move_bytes(void *argument) {
  struct work *work = argument;
  int ends[2];
  if (pipe(ends) < 0) return NULL;
  unsigned char next = 0, got = 0;
  for (; !stop; next++, work->rounds++) {
    if (write(ends[1], &next, 1) != 1 || read(ends[0], &got, 1) != 1 || got != next) work->value++;
  }
  return NULL;
}

// The affine map of compute(), `rounds` times, by squaring.
static uint64_t expected(uint64_t rounds) {
  uint64_t factor = 6364136223846793005u, term = 1442695040888963407u, total_factor = 1, total_term = 0;
  for (; rounds; rounds >>= 1) {
    if (rounds & 1) total_factor *= factor, total_term = total_term * factor + term;
    term *= factor + 1, factor *= factor;
  }
  return total_factor + total_term;
}

int main(void) {
  struct work computed[2] = {{0}}, called = {0}, moved = {0};
  pthread_t threads[4];
  for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, compute, &computed[i]);
  pthread_create(&threads[2], NULL, call_kernel, &called);
  pthread_create(&threads[3], NULL, move_bytes, &moved);
  usleep(100000);
  wait_for_snapshot();
  uint64_t calls = called.rounds, bytes = moved.rounds;
  usleep(50000);
  stop = 1;
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < 2; i++) {
    CHECK(computed[i].rounds > 0 && computed[i].value == expected(computed[i].rounds));
    CHECK(computed[i].sum == (double)computed[i].rounds / 2);
  }
  CHECK(called.value == 0 && called.rounds > calls);
  CHECK(moved.value == 0 && moved.rounds > bytes);
  succeeded();
}
