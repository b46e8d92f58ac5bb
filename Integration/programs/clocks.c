// The clocks that count from a start go on from the snapshot, however long ago that was: what waits for a time waits on, nothing is early or late.
#include "harness.h"

static uint64_t nanoseconds(clockid_t clock) {
  struct timespec time;
  if (clock_gettime(clock, &time) < 0) _exit(80);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

// The call itself, which asks the kernel and not the vDSO.
static uint64_t kernel_nanoseconds(clockid_t clock) {
  struct timespec time;
  if (syscall(SYS_clock_gettime, clock, &time) < 0) _exit(80);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition;
static struct timespec deadline;
static uint64_t woken_at;

// Waits for an absolute time of the monotonic clock that lies past the snapshot.
static void *waits(void *unused) {
  pthread_mutex_lock(&lock);
  int result = pthread_cond_timedwait(&condition, &lock, &deadline);
  woken_at = result == ETIMEDOUT ? nanoseconds(CLOCK_MONOTONIC) : 1;
  pthread_mutex_unlock(&lock);
  return unused;
}

int main(void) {
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&condition, &attributes);
  const uint64_t second = 1000000000u;
  uint64_t begin = nanoseconds(CLOCK_MONOTONIC);
  // Later than the snapshot is taken, sooner than the host's clock will say when a clone begins.
  uint64_t wake = begin + 3 * second;
  deadline = (struct timespec){(time_t)(wake / second), (long)(wake % second)};
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, waits, NULL) == 0);
  uint64_t wall = nanoseconds(CLOCK_REALTIME), boot = nanoseconds(CLOCK_BOOTTIME);
  wait_for_snapshot();
  uint64_t after = nanoseconds(CLOCK_MONOTONIC);
  CHECK(after >= begin);
  // At least five seconds went by on the host (EngineTests); the clone has seen those until it was frozen only.
  CHECK(nanoseconds(CLOCK_REALTIME) - wall >= 5 * second);
  CHECK(after - begin < 3 * second);
  CHECK(nanoseconds(CLOCK_BOOTTIME) - boot < 3 * second);
  // The vDSO and the kernel agree.
  uint64_t kernel = kernel_nanoseconds(CLOCK_MONOTONIC);
  CHECK(kernel >= after && kernel - after < second);
  pthread_mutex_lock(&lock);
  CHECK(woken_at == 0); // not yet
  pthread_mutex_unlock(&lock);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(woken_at >= wake);
  succeeded();
}
