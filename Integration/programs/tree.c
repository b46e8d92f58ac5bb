// A process tree: children that wait, with sessions, groups, orphans and ended processes of every kind, who share memory, descriptors and locks.
#include "harness.h"
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

enum { RELATIVES = 16 };

// Where everybody writes who he is, and when he is asked again, who he is then.
struct relative {
  pid_t pid, parent, group, session;
  char wrong[200];
};
struct shared {
  struct relative before[RELATIVES], after[RELATIVES];
  pthread_mutex_t mutex;
  uint32_t counter;
  uint32_t answered;
};
static struct shared *shared;
static int question[RELATIVES][2], answer[2];

static void identify(struct relative *relative) {
  relative->parent = getppid();
  relative->group = getpgrp();
  relative->session = getsid(0);
  relative->pid = getpid();
}

#define RELATIVE_CHECK(self, condition) \
  do { \
    if (!(condition) && !shared->after[self].wrong[0]) \
      snprintf(shared->after[self].wrong, sizeof shared->after[self].wrong, "%d: %s (errno %d)", __LINE__, #condition, errno); \
  } while (0)

static void tell(void) {
  char byte = '.';
  if (write(answer[1], &byte, 1) != 1) _exit(80);
}

// Says that it exists, waits to be asked, says who it is then.
static void wait_for_question(int self) {
  char byte;
  identify(&shared->before[self]);
  tell();
  if (read(question[self][0], &byte, 1) != 1) _exit(81);
  identify(&shared->after[self]);
}

__attribute__((noreturn)) static void stay(int self) {
  wait_for_question(self);
  tell();
  for (;;) pause();
}

static void wait_for_answers(int count) {
  for (int i = 0; i < count; i++) {
    char byte;
    CHECK(read(answer[0], &byte, 1) == 1);
  }
}

static int handled;
static void count_signal(int number) { handled += number; }

// Has memory, threads, descriptors, timers, locks and settings of its own.
enum { BUSY = 0 };
static char *private_page;
static int file, file_at, pair[2], event, pipe_with_bytes[2];
static void *thread_of_child(void *value) {
  pthread_mutex_lock(&shared->mutex);
  __atomic_add_fetch(&shared->counter, 100, __ATOMIC_SEQ_CST);
  pthread_mutex_unlock(&shared->mutex);
  return value;
}

__attribute__((noreturn)) static void busy(void) {
  strcpy(private_page, "the child's");
  char *other = mmap(NULL, 3 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(other, 7, 3 << 20);
  CHECK(chdir("/tmp") == 0);
  umask(027);
  setpriority(PRIO_PROCESS, 0, 5);
  signal(SIGUSR1, count_signal);
  signal(SIGUSR2, SIG_DFL);
  prctl(PR_SET_NAME, "busy child");
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  int epoll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, 0);
  struct itimerspec soon = {.it_value.tv_sec = 1};
  timerfd_settime(timer, 0, &soon, NULL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGHUP);
  sigprocmask(SIG_BLOCK, &set, NULL);
  int signals = signalfd(-1, &set, SFD_NONBLOCK);
  struct epoll_event readable = {.events = EPOLLIN, .data.u64 = 11}, told = {.events = EPOLLIN, .data.u64 = 12};
  epoll_ctl(epoll, EPOLL_CTL_ADD, question[BUSY][0], &readable);
  epoll_ctl(epoll, EPOLL_CTL_ADD, signals, &told);
  int lock = open("locked", O_RDWR | O_CREAT, 0644);
  struct flock whole = {.l_type = F_WRLCK};
  fcntl(lock, F_SETLK, &whole);
  pthread_mutex_lock(&shared->mutex);
  pthread_t thread;
  pthread_create(&thread, NULL, thread_of_child, "joined");
  char byte, path[64], text[32] = "";
  identify(&shared->before[BUSY]);
  tell();

  struct epoll_event event_of;
  RELATIVE_CHECK(BUSY, epoll_wait(epoll, &event_of, 1, -1) == 1 && event_of.data.u64 == 11);
  RELATIVE_CHECK(BUSY, read(question[BUSY][0], &byte, 1) == 1);
  identify(&shared->after[BUSY]);
  RELATIVE_CHECK(BUSY, !strcmp(private_page, "the child's"));
  for (int i = 0; i < 3 << 20; i += 4096) RELATIVE_CHECK(BUSY, other[i] == 7);
  RELATIVE_CHECK(BUSY, getcwd(path, sizeof path) && !strcmp(path, "/tmp"));
  RELATIVE_CHECK(BUSY, umask(027) == 027 && getpriority(PRIO_PROCESS, 0) == 5);
  RELATIVE_CHECK(BUSY, prctl(PR_GET_NAME, text) == 0 && !strcmp(text, "busy child"));
  int death = 0;
  RELATIVE_CHECK(BUSY, prctl(PR_GET_PDEATHSIG, &death) == 0 && death == SIGTERM);
  struct sigaction action;
  RELATIVE_CHECK(BUSY, sigaction(SIGUSR2, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
  raise(SIGUSR1);
  RELATIVE_CHECK(BUSY, handled == SIGUSR1);
  raise(SIGHUP);
  RELATIVE_CHECK(BUSY, epoll_wait(epoll, &event_of, 1, 1000) == 1 && event_of.data.u64 == 12);
  RELATIVE_CHECK(BUSY, epoll_ctl(epoll, EPOLL_CTL_DEL, question[BUSY][0], NULL) == 0);
  uint64_t count = 0;
  RELATIVE_CHECK(BUSY, read(timer, &count, 8) == 8 && count == 1);
  // What its parent has written before the snapshot and after it.
  char got[16] = "";
  RELATIVE_CHECK(BUSY, read(pair[1], got, sizeof got) == 6 && !memcmp(got, "before", 6));
  RELATIVE_CHECK(BUSY, write(pair[1], "answer", 6) == 6);
  RELATIVE_CHECK(BUSY, read(event, &count, 8) == 8 && count == 5);
  RELATIVE_CHECK(BUSY, lseek(file, 0, SEEK_CUR) == file_at);
  RELATIVE_CHECK(BUSY, lseek(file, 2, SEEK_CUR) == file_at + 2);
  pthread_mutex_unlock(&shared->mutex);
  void *result = NULL;
  RELATIVE_CHECK(BUSY, pthread_join(thread, &result) == 0 && !strcmp(result, "joined"));
  tell();
  for (;;) pause();
}

// A new process that stays; which one it is makes its kind.
static pid_t make(int self, void (*begin)(int)) {
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    if (begin) begin(self);
    stay(self);
  }
  return pid;
}

enum { LEADER = 1, IN_SESSION, BEFORE_SESSION, GROUP, MEMBER, LEFT_MEMBER, ORPHAN, DAEMON, DAEMONS_CHILD, SAME_DAEMON, LAST };

static void begin_session(int self) {
  (void)self;
  make(BEFORE_SESSION, NULL);
  CHECK(setsid() > 0);
  make(IN_SESSION, NULL);
}
static void begin_group(int self) {
  (void)self;
  CHECK(setpgid(0, 0) == 0);
}
static pid_t joined_group;
static void join_group(int self) {
  (void)self;
  while (setpgid(0, joined_group) < 0 && errno == EPERM) usleep(1000);
}
static void become_orphan(int self) {
  (void)self;
  while (getppid() != 1) usleep(1000);
}
static void become_daemon(int self) {
  become_orphan(self);
  make(DAEMONS_CHILD, NULL);
}

int main(void) {
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  private_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  strcpy(private_page, "the parent's");
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(&shared->mutex, &attributes);
  signal(SIGCHLD, count_signal);
  signal(SIGUSR2, count_signal);
  CHECK(pipe(answer) == 0 && pipe(pipe_with_bytes) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  for (int i = 0; i < RELATIVES; i++) CHECK(pipe(question[i]) == 0);
  event = eventfd(0, 0);
  file = open("/tmp/file", O_RDWR | O_CREAT, 0644);
  CHECK(write(file, "0123456789", 10) == 10 && lseek(file, 4, SEEK_SET) == 4);
  file_at = 4;

  pid_t busy_pid = fork();
  if (busy_pid == 0) busy();
  wait_for_answers(1);
  pid_t leader = make(LEADER, begin_session);
  joined_group = make(GROUP, begin_group);
  make(MEMBER, join_group);
  wait_for_answers(5);
  // A group whose leader has ended.
  pid_t ended = fork();
  if (ended == 0) {
    setpgid(0, 0);
    pause();
    _exit(0);
  }
  joined_group = ended;
  make(LEFT_MEMBER, join_group);
  wait_for_answers(1);
  kill(ended, SIGKILL);
  CHECK(waitpid(ended, NULL, 0) == ended);
  // An orphan in this session.
  pid_t middle = fork();
  if (middle == 0) {
    make(ORPHAN, become_orphan);
    _exit(0);
  }
  CHECK(waitpid(middle, NULL, 0) == middle);
  wait_for_answers(1);
  // Two daemons of a session whose leader has ended, one with a child.
  middle = fork();
  if (middle == 0) {
    setsid();
    make(DAEMON, become_daemon);
    make(SAME_DAEMON, become_orphan);
    _exit(0);
  }
  CHECK(waitpid(middle, NULL, 0) == middle);
  wait_for_answers(3);
  // The dead that nobody has waited for.
  pid_t exited = fork();
  if (exited == 0) _exit(7);
  pid_t killed = fork();
  if (killed == 0) raise(SIGKILL);
  pid_t grouped = fork();
  if (grouped == 0) {
    setpgid(0, 0);
    _exit(9);
  }
  // Another program.
  int to_cat[2], from_cat[2];
  CHECK(pipe(to_cat) == 0 && pipe(from_cat) == 0);
  pid_t cat = fork();
  if (cat == 0) {
    dup2(to_cat[0], 0);
    dup2(from_cat[1], 1);
    for (int i = 3; i < 1024; i++) close(i);
    execl("/bin/cat", "cat", NULL);
    _exit(82);
  }
  close(to_cat[0]);
  close(from_cat[1]);
  CHECK(write(to_cat[1], "warm", 4) == 4);
  char text[64] = "";
  CHECK(read(from_cat[0], text, sizeof text) == 4);
  int process = (int)syscall(SYS_pidfd_open, busy_pid, 0);
  usleep(50000);

  CHECK(write(pair[0], "before", 6) == 6);
  CHECK(write(pipe_with_bytes[1], "waiting", 7) == 7);
  int handled_before = handled;
  shared->counter = 1;
  for (int i = LEADER; i < LAST; i++) CHECK(shared->before[i].pid > 0);
  wait_for_snapshot();

  CHECK(handled == handled_before);
  CHECK(!strcmp(private_page, "the parent's"));
  CHECK(write(event, &(uint64_t){5}, 8) == 8);
  for (int i = 0; i < LAST; i++) CHECK(write(question[i][1], "?", 1) == 1);
  wait_for_answers(LAST);
  for (int i = 0; i < LAST; i++) {
    struct relative *before = &shared->before[i], *after = &shared->after[i];
    if (after->wrong[0]) failed("relative %d: %s", i, after->wrong);
    if (before->pid != after->pid || before->parent != after->parent || before->group != after->group || before->session != after->session)
      failed("relative %d: pid %d %d, parent %d %d, group %d %d, session %d %d", i, before->pid, after->pid, before->parent, after->parent,
             before->group, after->group, before->session, after->session);
  }
  CHECK(shared->counter == 101);
  CHECK(read(pair[0], text, sizeof text) == 6 && !memcmp(text, "answer", 6));
  CHECK(read(pipe_with_bytes[0], text, sizeof text) == 7 && !memcmp(text, "waiting", 7));
  CHECK(lseek(file, 0, SEEK_CUR) == 6); // the child has moved it
  int probe = open("/tmp/locked", O_RDWR);
  struct flock held = {.l_type = F_WRLCK};
  CHECK(fcntl(probe, F_GETLK, &held) == 0 && held.l_type == F_WRLCK && held.l_pid == busy_pid);
  CHECK(write(to_cat[1], "meow", 4) == 4 && read(from_cat[0], text, sizeof text) == 4 && !memcmp(text, "meow", 4));
  int status = 0;
  CHECK(waitpid(exited, &status, 0) == exited && WIFEXITED(status) && WEXITSTATUS(status) == 7);
  CHECK(waitpid(killed, &status, 0) == killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  CHECK(waitpid(-grouped, &status, 0) == grouped && WEXITSTATUS(status) == 9);
  CHECK(handled == handled_before);
  CHECK((int)syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0) == 0);
  CHECK(waitpid(busy_pid, &status, 0) == busy_pid && WTERMSIG(status) == SIGKILL);
  CHECK(handled == handled_before + SIGCHLD);
  close(to_cat[1]);
  CHECK(waitpid(cat, &status, 0) == cat && WEXITSTATUS(status) == 0);
  CHECK(kill(-leader, SIGKILL) == 0 && waitpid(leader, &status, 0) == leader);
  CHECK(waitpid(-1, &status, WNOHANG) == 0);
  succeeded();
}
