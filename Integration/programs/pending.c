// Signals that wait: for the process and for one thread, with what their senders said, several of one number; signalfds, full and empty.
#include "harness.h"
#include <poll.h>
#include <sys/signalfd.h>

// The system call itself: glibc's makes SI_USER of SI_TKILL.
static int take(const sigset_t *set, siginfo_t *information) {
  struct timespec none = {0, 0};
  return (int)syscall(SYS_rt_sigtimedwait, set, information, &none, 8);
}

static int quit[2], answers[2];
static volatile pid_t other;

static void *other_thread(void *unused) {
  (void)unused;
  other = (pid_t)syscall(SYS_gettid);
  char byte;
  while (read(quit[0], &byte, 1) < 0 && errno == EINTR) {
  }
  // What waited for this thread alone.
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  siginfo_t information;
  int first = take(&set, &information);
  byte = first == SIGUSR2 && information.si_code == SI_TKILL && information.si_pid == getpid() && take(&set, &information) == -1;
  if (write(answers[1], &byte, 1) != 1) _exit(73);
  return NULL;
}

static void queue(int signal, int value) {
  CHECK(sigqueue(getpid(), signal, (union sigval){.sival_int = value}) == 0);
}

int main(void) {
  sigset_t set, readable;
  sigfillset(&set);
  sigdelset(&set, SIGINT);
  CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
  CHECK(pipe(quit) == 0 && pipe(answers) == 0);
  pthread_t thread;
  pthread_create(&thread, NULL, other_thread, NULL);
  while (!other) usleep(1000);
  queue(SIGRTMIN + 5, 500);
  queue(SIGRTMIN + 5, 501);
  queue(SIGRTMIN + 5, 502);
  CHECK(kill(getpid(), SIGUSR1) == 0);
  CHECK(kill(getpid(), SIGTERM) == 0);
  CHECK(syscall(SYS_tgkill, getpid(), other, SIGUSR2) == 0);
  CHECK(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGHUP) == 0);
  sigemptyset(&readable);
  sigaddset(&readable, SIGTERM);
  sigaddset(&readable, SIGRTMIN + 9);
  int full = signalfd(-1, &readable, SFD_CLOEXEC | SFD_NONBLOCK);
  sigemptyset(&readable);
  sigaddset(&readable, SIGALRM);
  int empty = signalfd(-1, &readable, 0);
  CHECK(full >= 0 && empty >= 0);
  int set_of = epoll_create1(0);
  struct epoll_event item = {.events = EPOLLIN, .data.u32 = 11};
  CHECK(epoll_ctl(set_of, EPOLL_CTL_ADD, empty, &item) == 0);
  wait_for_snapshot();
  sigset_t pending;
  CHECK(sigpending(&pending) == 0);
  CHECK(sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGTERM) && sigismember(&pending, SIGHUP) && sigismember(&pending, SIGRTMIN + 5));
  CHECK(!sigismember(&pending, SIGUSR2) && !sigismember(&pending, SIGALRM) && !sigismember(&pending, SIGCHLD));
  siginfo_t information;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 5);
  for (int i = 0; i < 3; i++) {
    CHECK(take(&set, &information) == SIGRTMIN + 5);
    CHECK(information.si_code == SI_QUEUE && information.si_value.sival_int == 500 + i);
    CHECK(information.si_pid == getpid() && information.si_uid == getuid());
  }
  CHECK(take(&set, &information) == -1 && errno == EAGAIN);
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGHUP);
  CHECK(take(&set, &information) == SIGHUP && information.si_code == SI_TKILL);
  CHECK(take(&set, &information) == SIGUSR1 && information.si_code == SI_USER && information.si_pid == getpid());
  struct signalfd_siginfo read_back;
  CHECK(read(full, &read_back, sizeof read_back) == sizeof read_back && read_back.ssi_signo == SIGTERM);
  CHECK(read(full, &read_back, sizeof read_back) == -1 && errno == EAGAIN && fcntl(full, F_GETFD) == FD_CLOEXEC);
  queue(SIGRTMIN + 9, 9);
  CHECK(read(full, &read_back, sizeof read_back) == sizeof read_back && read_back.ssi_int == 9);
  struct epoll_event events[2];
  CHECK(epoll_wait(set_of, events, 2, 0) == 0);
  CHECK(kill(getpid(), SIGALRM) == 0);
  CHECK(epoll_wait(set_of, events, 2, 1000) == 1 && events[0].data.u32 == 11);
  CHECK(read(empty, &read_back, sizeof read_back) == sizeof read_back && read_back.ssi_signo == SIGALRM);
  char byte;
  CHECK(write(quit[1], "x", 1) == 1 && read(answers[0], &byte, 1) == 1 && byte == 1);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGUSR2) && !sigismember(&pending, SIGRTMIN + 5));
  succeeded();
}
