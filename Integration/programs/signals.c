// Handlers, ignored signals, masks, an alternate stack, an interval timer, membarrier and rseq.
#include "harness.h"
#include <linux/membarrier.h>

static volatile sig_atomic_t caught, on_alternate, alarms;
static char alternate[65536];

static void handler(int signal, siginfo_t *information, void *context) {
  (void)signal, (void)context;
  char here;
  caught += information->si_pid == getpid();
  on_alternate = &here >= alternate && &here < alternate + sizeof alternate;
}
static void on_alarm(int signal) {
  (void)signal;
  alarms++;
}

int main(void) {
  stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
  CHECK(sigaltstack(&stack, NULL) == 0);
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigaddset(&action.sa_mask, SIGUSR2);
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGALRM, on_alarm);
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR2);
  sigaddset(&blocked, SIGRTMIN + 3);
  CHECK(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
  CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0);
  struct itimerval timer = {.it_interval = {0, 20000}, .it_value = {0, 500000}};
  struct timespec before;
  clock_gettime(CLOCK_MONOTONIC, &before);
  CHECK(setitimer(ITIMER_VIRTUAL, &timer, NULL) == 0);
  wait_for_snapshot();
  struct itimerval now;
  CHECK(getitimer(ITIMER_VIRTUAL, &now) == 0);
  CHECK(now.it_interval.tv_usec == 20000 && (now.it_value.tv_usec > 0 || now.it_value.tv_sec > 0));
  timer = (struct itimerval){{0, 0}, {0, 0}};
  CHECK(setitimer(ITIMER_VIRTUAL, &timer, NULL) == 0);
  CHECK(raise(SIGUSR1) == 0);
  CHECK(caught == 1);
  CHECK(on_alternate == 1);
  sigset_t mask;
  CHECK(sigprocmask(SIG_BLOCK, NULL, &mask) == 0);
  CHECK(sigismember(&mask, SIGUSR2) && sigismember(&mask, SIGRTMIN + 3) && !sigismember(&mask, SIGUSR1));
  struct sigaction read_back;
  CHECK(sigaction(SIGUSR1, NULL, &read_back) == 0);
  CHECK(read_back.sa_sigaction == handler && sigismember(&read_back.sa_mask, SIGUSR2));
  CHECK(sigaction(SIGPIPE, NULL, &read_back) == 0 && read_back.sa_handler == SIG_IGN);
  CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0);
  // rseq: the registered area must be kept up to date by the kernel. glibc 2.35 and later export its place.
  extern const long __rseq_offset __attribute__((weak));
  if (&__rseq_offset) {
    int cpu = *(volatile int *)((char *)__builtin_thread_pointer() + __rseq_offset + 4);
    CHECK(cpu >= 0 && cpu < 4096);
  }
  timer = (struct itimerval){{0, 0}, {0, 1000}};
  CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
  while (!alarms) usleep(1000);
  struct timespec after;
  clock_gettime(CLOCK_MONOTONIC, &after);
  CHECK(after.tv_sec >= before.tv_sec);
  succeeded();
}
