// A process tree of rare cases: ids that the dead have left, children with everything of their own, many generations.
#include "harness.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>

enum { GENERATIONS = 90 };
static struct {
  char wrong[200];
  pid_t orphan, orphan_group, orphan_session, left, left_session;
  uint32_t generations;
} *shared;
static int ask[2], answer[2], deep_ask[2], deep_answer[2];

#define IN_CHILD(condition) \
  do { \
    if (!(condition) && !shared->wrong[0]) snprintf(shared->wrong, sizeof shared->wrong, "%d: %s (errno %d)", __LINE__, #condition, errno); \
  } while (0)

static void tell(int descriptor) {
  if (write(descriptor, ".", 1) != 1) _exit(80);
}
static void hear(int descriptor) {
  char byte;
  if (read(descriptor, &byte, 1) != 1) _exit(81);
}

static int caught;
static void catch_signal(int number) { caught = number; }

// A child with memory, limits, filters, timers, watches and sockets of its own.
static void equipped(int inherited_pidfd) {
  char *wiped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char *kept = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char *locked = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char *guarded = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char *reserved = mmap(NULL, 1ull << 38, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  strcpy(wiped, "secret"), strcpy(kept, "kept"), strcpy(locked, "locked"), strcpy(guarded, "before"), strcpy(guarded + 8192, "behind");
  madvise(wiped, 4096, MADV_WIPEONFORK);
  madvise(kept, 4096, MADV_DONTFORK);
  mlock(locked, 8192);
  int has_guard = madvise(guarded + 4096, 4096, 102 /* MADV_GUARD_INSTALL */) == 0;
  char *grown = sbrk(0);
  IN_CHILD(sbrk(100000) == grown);
  memset(grown, 3, 100000);
  struct rlimit files = {200, 300}, memory = {1ull << 45, 1ull << 45};
  IN_CHILD(setrlimit(RLIMIT_NOFILE, &files) == 0 && setrlimit(RLIMIT_AS, &memory) == 0);
  timer_t timer;
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
  signal(SIGALRM, catch_signal);
  signal(SIGPIPE, SIG_IGN);
  IN_CHILD(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
  struct itimerspec later = {.it_value.tv_sec = 3600};
  timer_settime(timer, 0, &later, NULL);
  IN_CHILD(mkdir("/tmp/kin", 0700) == 0 && chdir("/tmp/kin") == 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "relative.sock"};
  int server = socket(AF_UNIX, SOCK_STREAM, 0);
  IN_CHILD(bind(server, (struct sockaddr *)&address, sizeof address) == 0 && listen(server, 5) == 0);
  int watcher = inotify_init1(IN_NONBLOCK), watch = inotify_add_watch(watcher, "/tmp/kin", IN_CREATE);
  // One call is forbidden, with an errno of its own.
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgid, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog filter = {4, code};
  IN_CHILD(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) == 0);
  tell(answer[1]);
  hear(ask[0]);

  for (int i = 0; i < 6; i++) IN_CHILD(wiped[i] == 0);
  IN_CHILD(!strcmp(kept, "kept") && !strcmp(locked, "locked") && !strcmp(guarded, "before") && !strcmp(guarded + 8192, "behind"));
  IN_CHILD(!has_guard || (write(answer[1], guarded + 4096, 1) < 0 && errno == EFAULT));
  IN_CHILD(write(answer[1], reserved + (1ull << 37), 1) < 0 && errno == EFAULT && mprotect(reserved, 4096, PROT_READ | PROT_WRITE) == 0);
  reserved[7] = 1;
  for (int i = 0; i < 100000; i++) IN_CHILD(grown[i] == 3);
  IN_CHILD(sbrk(0) == grown + 100000);
  struct rlimit now;
  IN_CHILD(getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == 200 && now.rlim_max == 300);
  IN_CHILD(getrlimit(RLIMIT_AS, &now) == 0 && now.rlim_cur == 1ull << 45);
  struct itimerspec left;
  IN_CHILD(timer_gettime(timer, &left) == 0 && left.it_value.tv_sec > 3500 && left.it_value.tv_sec <= 3600);
  struct itimerspec soon = {.it_value.tv_nsec = 1000000};
  IN_CHILD(timer_settime(timer, 0, &soon, NULL) == 0);
  while (!caught) pause();
  IN_CHILD(caught == SIGALRM);
  int client = socket(AF_UNIX, SOCK_STREAM, 0);
  IN_CHILD(connect(client, (struct sockaddr *)&address, sizeof address) == 0 && accept(server, NULL, NULL) >= 0);
  IN_CHILD(access("/tmp/kin/relative.sock", F_OK) == 0);
  int made = open("/tmp/kin/new", O_CREAT | O_RDWR, 0600);
  struct inotify_event *told = (void *)(char[512]){0};
  IN_CHILD(made >= 0 && read(watcher, told, 512) > 0 && told->wd == watch && told->mask == IN_CREATE);
  IN_CHILD(getpgid(0) < 0 && errno == 77);
  struct sigaction action;
  IN_CHILD(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_IGN);
  IN_CHILD(sigaction(SIGCHLD, NULL, &action) == 0 && action.sa_handler == SIG_IGN);
  IN_CHILD((int)syscall(SYS_pidfd_send_signal, inherited_pidfd, 0, NULL, 0) == 0);
  tell(answer[1]);
  for (;;) pause();
}

// Each is the parent of the next; the last answers.
static void generations(void) {
  int number = 1;
  for (;; number++) {
    __atomic_add_fetch(&shared->generations, 1, __ATOMIC_SEQ_CST);
    if (number == GENERATIONS || fork() != 0) break;
  }
  if (number == GENERATIONS) {
    tell(deep_answer[1]);
    hear(deep_ask[0]);
    __atomic_add_fetch(&shared->generations, 1000, __ATOMIC_SEQ_CST);
    tell(deep_answer[1]);
  }
  for (;;) pause();
}

int main(void) {
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(pipe(ask) == 0 && pipe(answer) == 0 && pipe(deep_ask) == 0 && pipe(deep_answer) == 0);
  // The first child has the lowest id; its group outlives it with an orphan that is in this session.
  pid_t first = fork();
  if (first == 0) {
    setpgid(0, 0);
    if (fork() == 0) {
      while (getppid() != 1) usleep(1000);
      shared->orphan_group = getpgrp(), shared->orphan_session = getsid(0), shared->orphan = getpid();
      for (;;) pause();
    }
    _exit(0);
  }
  CHECK(waitpid(first, NULL, 0) == first);
  while (!__atomic_load_n(&shared->orphan, __ATOMIC_ACQUIRE)) usleep(1000);
  // A leader of a session that has ended, that nobody has waited for, and that has left a process behind.
  pid_t leader = fork();
  if (leader == 0) {
    setsid();
    if (fork() == 0) {
      while (getppid() != 1) usleep(1000);
      shared->left_session = getsid(0), shared->left = getpid();
      for (;;) pause();
    }
    _exit(4);
  }
  while (!__atomic_load_n(&shared->left, __ATOMIC_ACQUIRE)) usleep(1000);
  // One that ended by a signal that dumps memory, while its parent ignores that children end, as of later.
  pid_t aborted = fork();
  if (aborted == 0) abort();
  usleep(50000);
  signal(SIGCHLD, SIG_IGN);
  // A process descriptor that a process forked before the one it names has from its parent.
  pid_t later = fork();
  if (later == 0)
    for (;;) pause();
  int pidfd = (int)syscall(SYS_pidfd_open, later, 0);
  fcntl(pidfd, F_SETFD, 0);
  if (fork() == 0) equipped(pidfd);
  hear(answer[0]);
  if (fork() == 0) generations();
  hear(deep_answer[0]);
  int flags = fcntl(pidfd, F_GETFD);
  wait_for_snapshot();

  tell(ask[1]);
  hear(answer[0]);
  if (shared->wrong[0]) failed("%s", shared->wrong);
  CHECK(fcntl(pidfd, F_GETFD) == flags && flags == 0);
  tell(deep_ask[1]);
  hear(deep_answer[0]);
  CHECK(shared->generations == GENERATIONS + 1000);
  CHECK(getpgid(shared->orphan) == shared->orphan_group && shared->orphan_group == first && getsid(shared->orphan) == shared->orphan_session);
  CHECK(getsid(shared->left) == shared->left_session && shared->left_session == leader);
  int status = 0;
  struct sigaction action;
  CHECK(sigaction(SIGCHLD, NULL, &action) == 0 && action.sa_handler == SIG_IGN);
  CHECK(waitpid(leader, &status, WNOHANG) == leader && WEXITSTATUS(status) == 4);
  CHECK(waitpid(aborted, &status, WNOHANG) == aborted && WTERMSIG(status) == SIGABRT);
  succeeded();
}
