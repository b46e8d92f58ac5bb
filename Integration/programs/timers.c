// timerfds and POSIX timers of every kind, armed and disarmed: with their ids, their remaining time, and expirations that nobody has read.
#include "harness.h"
#include <sys/timerfd.h>

static double seconds(struct timespec time) { return (double)time.tv_sec + (double)time.tv_nsec * 1e-9; }
static double remaining(int timer) {
  struct itimerspec now;
  CHECK(timerfd_gettime(timer, &now) == 0);
  return seconds(now.it_value);
}
static void set(int timer, int flags, double first, double interval) {
  struct itimerspec time = {.it_value = {(time_t)first, (long)((first - (double)(time_t)first) * 1e9)},
                            .it_interval = {(time_t)interval, (long)((interval - (double)(time_t)interval) * 1e9)}};
  CHECK(timerfd_settime(timer, flags, &time, NULL) == 0);
}
static double now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return seconds(time);
}

static volatile sig_atomic_t got[65];
static volatile pid_t receiver;
static void *volatile carried;
static void handler(int signal, siginfo_t *information, void *context) {
  (void)context;
  if (signal == SIGRTMIN + 1) {
    receiver = (pid_t)syscall(SYS_gettid);
    carried = information->si_value.sival_ptr;
  }
  got[signal]++; // last: the main thread looks at it
}

// The system calls themselves: glibc's timer_t of SIGEV_THREAD_ID is the kernel's id too, but glibc does not say so.
static int make(clockid_t clock, int notification, int signal, void *value, pid_t thread) {
  struct sigevent event = {.sigev_notify = notification, .sigev_signo = signal, .sigev_value.sival_ptr = value};
  event._sigev_un._tid = thread;
  int id = -1;
  CHECK(syscall(SYS_timer_create, clock, &event, &id) == 0);
  return id;
}
static void arm(int id, double first, double interval) {
  struct itimerspec time = {.it_value = {(time_t)first, (long)((first - (double)(time_t)first) * 1e9)},
                            .it_interval = {(time_t)interval, (long)((interval - (double)(time_t)interval) * 1e9)}};
  CHECK(syscall(SYS_timer_settime, id, 0, &time, NULL) == 0);
}
static struct itimerspec state(int id) {
  struct itimerspec time;
  CHECK(syscall(SYS_timer_gettime, id, &time) == 0);
  return time;
}

static pid_t other;
static int quit[2];
static void *other_thread(void *unused) {
  (void)unused;
  other = (pid_t)syscall(SYS_gettid);
  char byte;
  while (read(quit[0], &byte, 1) < 0 && errno == EINTR) {
  }
  return NULL;
}

int main(void) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
  for (int signal = SIGRTMIN; signal < SIGRTMIN + 4; signal++) CHECK(sigaction(signal, &action, NULL) == 0);
  CHECK(pipe(quit) == 0);
  pthread_t thread;
  pthread_create(&thread, NULL, other_thread, NULL);
  while (!other) usleep(1000);

  int disarmed = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  int once = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), boot = timerfd_create(CLOCK_BOOTTIME, 0);
  set(once, 0, 3000, 0);
  set(boot, TFD_TIMER_ABSTIME, now(CLOCK_BOOTTIME) + 2000, 0);
  int wall = timerfd_create(CLOCK_REALTIME, 0);
  double deadline = now(CLOCK_REALTIME) + 1000;
  set(wall, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, deadline, 0);
  int expired = timerfd_create(CLOCK_MONOTONIC, 0), periodic = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  set(expired, 0, 0.001, 0);
  set(periodic, 0, 0.001, 0.002);  // expires many times before anybody reads it
  int idle = timerfd_create(CLOCK_MONOTONIC, 0), rapid = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  set(idle, 0, 0, 5);            // disarmed, with an interval all the same
  set(rapid, 0, 0.001, 0.00001); // over whenever one looks
  int soon = timerfd_create(CLOCK_MONOTONIC, 0);
  set(soon, 0, 2.5, 0.01);
  CHECK(dup2(soon, 77) == 77);
  int set_of = epoll_create1(0);
  struct epoll_event item = {.events = EPOLLIN, .data.u32 = 5};
  CHECK(epoll_ctl(set_of, EPOLL_CTL_ADD, soon, &item) == 0);
  usleep(20000);

  int ids[6];
  int gone = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, NULL, 0), gone_too = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, NULL, 0);
  ids[0] = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN, (void *)0x123456789abc, 0);
  syscall(SYS_timer_delete, gone);
  syscall(SYS_timer_delete, gone_too);
  ids[1] = make(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 1, (void *)0x1234567890ab, other);
  int between = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, NULL, 0);
  ids[2] = make(CLOCK_REALTIME, SIGEV_NONE, 0, NULL, 0);
  syscall(SYS_timer_delete, between);
  ids[3] = make(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGRTMIN + 2, NULL, 0);
  ids[4] = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 3, NULL, 0);  // stays disarmed
  arm(ids[0], 5000, 7);
  arm(ids[1], 3, 0);
  arm(ids[2], 900.5, 0);
  arm(ids[3], 0.3, 0.1);

  wait_for_snapshot();

  char buffer[64];
  uint64_t ticks;
  CHECK(remaining(disarmed) == 0 && fcntl(disarmed, F_GETFD) == FD_CLOEXEC);
  CHECK(remaining(once) > 2900 && remaining(once) <= 3000 && (fcntl(once, F_GETFL) & O_NONBLOCK));
  CHECK(remaining(boot) > 1900 && remaining(boot) <= 2000);
  // An absolute time of the wall clock stays where it was.
  CHECK(remaining(wall) - (deadline - now(CLOCK_REALTIME)) < 0.2 && remaining(wall) - (deadline - now(CLOCK_REALTIME)) > -0.2);
  CHECK(read(expired, &ticks, 8) == 8 && ticks == 1);
  CHECK(read(periodic, &ticks, 8) == 8 && ticks >= 8);
  usleep(20000);
  CHECK(read(periodic, &ticks, 8) == 8 && ticks >= 2 && ticks < 10000);
  CHECK(read(rapid, &ticks, 8) == 8);
  usleep(20000);
  CHECK(read(rapid, &ticks, 8) == 8 && ticks >= 1000 && ticks < 1000000);
  struct itimerspec still;
  CHECK(timerfd_gettime(idle, &still) == 0 && seconds(still.it_value) == 0 && still.it_interval.tv_sec == 5);
  struct epoll_event events[2];
  CHECK(epoll_wait(set_of, events, 2, 5000) == 1 && events[0].data.u32 == 5);
  CHECK(read(77, &ticks, 8) == 8 && ticks >= 1);

  struct itimerspec time = state(ids[0]);
  CHECK(seconds(time.it_value) > 4900 && seconds(time.it_value) <= 5000 && time.it_interval.tv_sec == 7);
  time = state(ids[2]);
  CHECK(seconds(time.it_value) > 850 && seconds(time.it_value) <= 900.5);
  CHECK(seconds(state(ids[4]).it_value) == 0);
  CHECK(syscall(SYS_timer_gettime, gone, &time) == -1 && syscall(SYS_timer_gettime, between, &time) == -1);
  for (int i = 0; i < 5000 && !got[SIGRTMIN + 1]; i++) usleep(1000);
  CHECK(got[SIGRTMIN + 1] == 1 && receiver == other && carried == (void *)0x1234567890ab);
  volatile unsigned long work = 0;
  for (double end = now(CLOCK_MONOTONIC) + 5; got[SIGRTMIN + 2] < 2 && now(CLOCK_MONOTONIC) < end;) work++;
  CHECK(got[SIGRTMIN + 2] >= 2);
  arm(ids[0], 0.001, 0);
  for (int i = 0; i < 2000 && !got[SIGRTMIN]; i++) usleep(1000);
  CHECK(got[SIGRTMIN] == 1 && got[SIGRTMIN + 3] == 0);
  // A new timer's id is not one that is taken, and choosing ids is not left switched on.
  int fresh = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, NULL, 0);
  for (int i = 0; i < 5; i++) CHECK(fresh != ids[i]);
  CHECK(write(quit[1], "x", 1) == 1 && pthread_join(thread, NULL) == 0);
  (void)buffer;
  succeeded();
}
