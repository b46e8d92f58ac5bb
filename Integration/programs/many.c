// Two hundred threads: in every kind of timed wait, in line for PI mutexes that others hold, and holding robust and PI mutexes.
#include "harness.h"
#include <linux/futex.h>
#include <poll.h>
#include <semaphore.h>

enum { KINDS = 8, EACH = 23, HOLDERS = 8, WAITERS = 8, COUNT = KINDS * EACH + HOLDERS + WAITERS };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, held[HOLDERS];
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int go, waiting, right, dead_seen;
static sem_t semaphore, never;
static int quit[2], poller;

static void arrive(void) {
  pthread_mutex_lock(&lock);
  waiting++;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
}
static void is_right(int condition) {
  pthread_mutex_lock(&lock);
  right += condition;
  pthread_mutex_unlock(&lock);
}
static struct timespec after(clockid_t clock, time_t seconds) {
  struct timespec time;
  clock_gettime(clock, &time);
  time.tv_sec += seconds;
  return time;
}

static void *timed(void *argument) {
  long kind = (long)argument % KINDS;
  pid_t self = (pid_t)syscall(SYS_gettid);
  struct timespec time, short_time = {4, 0};
  int result = 1;
  sigset_t set;
  struct epoll_event event;
  arrive();
  switch (kind) {
  case 0:  // a relative sleep begins again
    result = nanosleep(&short_time, NULL) == 0;
    break;
  case 1:
    time = after(CLOCK_MONOTONIC, 4);
    result = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == 0;
    break;
  case 2:
    time = after(CLOCK_REALTIME, 3600);
    pthread_mutex_lock(&lock);
    while (!go && result == 1) result = pthread_cond_timedwait(&changed, &lock, &time) == 0;
    pthread_mutex_unlock(&lock);
    break;
  case 3:
    time = after(CLOCK_REALTIME, 3600);
    result = sem_timedwait(&semaphore, &time) == 0;
    break;
  case 4: {
    struct pollfd item = {quit[0], POLLIN, 0};
    result = poll(&item, 1, 3600000) == 1 && item.revents == POLLIN;
    break;
  }
  case 5: result = epoll_wait(poller, &event, 1, 3600000) == 1 && event.data.u32 == 99; break;
  case 6:
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    time = (struct timespec){3600, 0};
    result = sigtimedwait(&set, NULL, &time) == SIGRTMIN;
    break;
  case 7:
    time = after(CLOCK_REALTIME, 4);
    result = sem_timedwait(&never, &time) == -1 && errno == ETIMEDOUT;
    break;
  }
  is_right(result && self == (pid_t)syscall(SYS_gettid));
  return NULL;
}

static void *holder(void *argument) {
  long index = (long)argument;
  pthread_mutex_lock(&held[index]);
  arrive();
  pthread_mutex_lock(&lock);
  while (!go) pthread_cond_wait(&changed, &lock);
  pthread_mutex_unlock(&lock);
  // Robust ones are left locked: whoever waits is told that their owner died.
  is_right(index % 2 == 0 || pthread_mutex_unlock(&held[index]) == 0);
  return NULL;
}
static void *in_line(void *argument) {
  long index = (long)argument;
  arrive();
  int result = pthread_mutex_lock(&held[index]);
  if (result == EOWNERDEAD) {
    pthread_mutex_lock(&lock);
    dead_seen++;
    pthread_mutex_unlock(&lock);
    pthread_mutex_consistent(&held[index]);
  }
  is_right(result == (index % 2 == 0 ? EOWNERDEAD : 0) && pthread_mutex_unlock(&held[index]) == 0);
  return NULL;
}

int main(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  sem_init(&semaphore, 0, 0);
  sem_init(&never, 0, 0);
  CHECK(pipe(quit) == 0);
  poller = epoll_create1(0);
  struct epoll_event item = {.events = EPOLLIN, .data.u32 = 99};
  CHECK(epoll_ctl(poller, EPOLL_CTL_ADD, quit[0], &item) == 0);
  for (int i = 0; i < HOLDERS; i++) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    if (i % 4 < 2) pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    if (i % 2 == 0) pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    CHECK(pthread_mutex_init(&held[i], &attributes) == 0);
  }
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 65536);
  static pthread_t threads[COUNT];
  int made = 0;
  for (long i = 0; i < HOLDERS; i++) CHECK(pthread_create(&threads[made++], &attributes, holder, (void *)i) == 0);
  pthread_mutex_lock(&lock);
  while (waiting < HOLDERS) pthread_cond_wait(&changed, &lock);
  pthread_mutex_unlock(&lock);
  for (long i = 0; i < WAITERS; i++) CHECK(pthread_create(&threads[made++], &attributes, in_line, (void *)i) == 0);
  for (long i = 0; i < KINDS * EACH; i++) CHECK(pthread_create(&threads[made++], &attributes, timed, (void *)i) == 0);
  pthread_mutex_lock(&lock);
  while (waiting < COUNT) pthread_cond_wait(&changed, &lock);
  pthread_mutex_unlock(&lock);
  CHECK(made == COUNT && COUNT == 200);

  wait_for_snapshot();

  for (int i = 0; i < HOLDERS; i++) CHECK(pthread_mutex_trylock(&held[i]) == EBUSY);
  // What the kernel keeps of a PI mutex: its word names its owner, and that somebody waits for it.
  for (int i = 0; i < HOLDERS; i++)
    if (i % 4 < 2) CHECK((held[i].__data.__lock & FUTEX_TID_MASK) > 1 && (held[i].__data.__lock & FUTEX_WAITERS));
  pthread_mutex_lock(&lock);
  go = 1;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
  for (int i = 0; i < EACH; i++) CHECK(sem_post(&semaphore) == 0);
  for (int i = HOLDERS + WAITERS; i < COUNT; i++)
    if ((i - HOLDERS - WAITERS) % KINDS == 6) CHECK(pthread_kill(threads[i], SIGRTMIN) == 0);
  CHECK(write(quit[1], "x", 1) == 1);
  for (int i = 0; i < COUNT; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  if (right != COUNT || dead_seen != HOLDERS / 2) failed("%d of %d threads found what they expected, %d that an owner died", right, COUNT, dead_seen);
  for (int i = 0; i < HOLDERS; i++) CHECK(pthread_mutex_lock(&held[i]) == 0 && pthread_mutex_unlock(&held[i]) == 0);
  succeeded();
}
