// Twenty threads: in futex waits with and without a timeout, in nanosleep, in poll; thread-local storage, names, robust mutexes, floating point in
// vector registers across the snapshot.
#include "harness.h"
#include <poll.h>

enum { COUNT = 20 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int go, waiting, woken;
static __thread long local_value;
static long local_sum;
static pthread_mutex_t robust;
static int quit_pipe[2];

static void *robust_owner(void *unused) {
  (void)unused;
  pthread_mutex_lock(&robust);
  pthread_mutex_lock(&lock);
  waiting++;
  pthread_cond_broadcast(&changed);
  while (!go) pthread_cond_wait(&changed, &lock);
  pthread_mutex_unlock(&lock);
  return NULL;  // ends while it owns the mutex: the kernel walks the robust list
}

static void *waiter(void *argument) {
  long index = (long)argument;
  char name[16];
  snprintf(name, sizeof name, "waiter-%ld", index);
  pthread_setname_np(pthread_self(), name);
  local_value = index * 1000;
  double number = 1.5 * (double)index;
  pid_t before = (pid_t)syscall(SYS_gettid);
  pthread_mutex_lock(&lock);
  waiting++;
  pthread_cond_broadcast(&changed);
  if (index % 4 == 3) {  // outside the lock, in poll on a pipe
    pthread_mutex_unlock(&lock);
    struct pollfd item = {quit_pipe[0], POLLIN, 0};
    while (poll(&item, 1, -1) < 0 && errno == EINTR) {
    }
    pthread_mutex_lock(&lock);
  }
  struct timespec deadline;
  clock_gettime(CLOCK_REALTIME, &deadline);
  deadline.tv_sec += 3600;
  while (!go) {
    if (index % 4 == 1) pthread_cond_timedwait(&changed, &lock, &deadline);
    else pthread_cond_wait(&changed, &lock);
  }
  char now[16];
  pthread_getname_np(pthread_self(), now, sizeof now);
  if (strcmp(name, now) == 0 && local_value == index * 1000 && number == 1.5 * (double)index && before == (pid_t)syscall(SYS_gettid)) woken++;
  local_sum += local_value;
  pthread_mutex_unlock(&lock);
  return NULL;
}

static void *nothing(void *argument) { return argument; }

int main(void) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&robust, &attributes);
  CHECK(pipe(quit_pipe) == 0);
  pthread_t threads[COUNT], owner;
  // A gap in the thread ids: one thread that ends before the others begin.
  pthread_t gap;
  pthread_create(&gap, NULL, nothing, NULL);
  pthread_join(gap, NULL);
  pthread_create(&owner, NULL, robust_owner, NULL);
  for (long i = 0; i < COUNT; i++) pthread_create(&threads[i], NULL, waiter, (void *)i);
  pthread_mutex_lock(&lock);
  while (waiting < COUNT + 1) pthread_cond_wait(&changed, &lock);
  pthread_mutex_unlock(&lock);
  pid_t self = getpid();
  // Values that live in vector registers and memory across the call.
  volatile double a = 3.25, b = 0.125;
  double product = a * b;
  wait_for_snapshot();
  CHECK(product == a * b);
  CHECK(getpid() == self && (pid_t)syscall(SYS_gettid) == self);
  pthread_mutex_lock(&lock);
  go = 1;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
  CHECK(write(quit_pipe[1], "x", 1) == 1);
  for (int i = 0; i < COUNT; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(pthread_join(owner, NULL) == 0);
  CHECK(woken == COUNT);
  CHECK(local_sum == 1000L * COUNT * (COUNT - 1) / 2);
  CHECK(pthread_mutex_lock(&robust) == EOWNERDEAD);
  CHECK(pthread_mutex_consistent(&robust) == 0);
  CHECK(pthread_mutex_unlock(&robust) == 0);
  pthread_t fresh;
  CHECK(pthread_create(&fresh, NULL, nothing, &fresh) == 0);
  void *result;
  CHECK(pthread_join(fresh, &result) == 0 && result == &fresh);
  succeeded();
}
