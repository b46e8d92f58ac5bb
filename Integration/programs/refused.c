// Holds one thing, named by the argument, that is not brought back (yet): the snapshot must be refused by name.
#include "harness.h"
#include <linux/filter.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/un.h>
#include <sys/wait.h>

static void *wait_forever(void *unused) {
  for (;;) pause();
  return unused;
}

static int wait_in_process(void *unused) {
  (void)unused;
  for (;;) pause();
}

static void *vfork_and_wait(void *unused) {
  static char stack[65536];
  clone(wait_in_process, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
  return unused;
}

int main(int count, char **arguments) {
  const char *what = count > 1 ? arguments[1] : "";
  int kept = -1;
  if (!strcmp(what, "stopped")) {
    kept = fork();
    if (kept == 0) raise(SIGSTOP);
  } else if (!strcmp(what, "vfork")) {
    // Another thread than the one that waits for its snapshot.
    pthread_t thread;
    kept = pthread_create(&thread, NULL, vfork_and_wait, NULL);
    usleep(100000);
  } else if (!strcmp(what, "memory")) {
    static char stack[65536];
    kept = clone(wait_in_process, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
  } else if (!strcmp(what, "table")) {
    static char stack[65536];
    kept = clone(wait_in_process, stack + sizeof stack, CLONE_FILES | SIGCHLD, NULL);
  } else if (!strcmp(what, "session")) {
    // Its session's leader has ended, and it is the child of one that was never in it.
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    kept = fork();
    if (kept == 0) {
      setsid();
      if (fork() == 0) pause();
      _exit(0);
    }
    waitpid(kept, NULL, 0);
  } else if (!strcmp(what, "inotify")) {
    int file = open("/tmp/watched", O_CREAT | O_RDWR, 0600), watcher = inotify_init();
    kept = inotify_add_watch(watcher, "/tmp/watched", IN_MODIFY);
    if (file < 0 || unlink("/tmp/watched") < 0) kept = -1;
  } else if (!strcmp(what, "pidfd")) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    kept = (int)syscall(SYS_pidfd_open, child, 0);
    waitpid(child, NULL, 0);
  } else if (!strcmp(what, "hugetlb")) {
    kept = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0) == MAP_FAILED ? -1 : 0;
  } else if (!strcmp(what, "directory")) {
    kept = mkdir("/tmp/gone", 0700) == 0 && chdir("/tmp/gone") == 0 ? rmdir("/tmp/gone") : -1;
  } else if (!strcmp(what, "fifo")) {
    if (mkfifo("/tmp/fifo", 0600) == 0) {
      int both = open("/tmp/fifo", O_RDWR);
      kept = open("/tmp/fifo", O_WRONLY);
      if (write(kept, "x", 1) < 0 || close(both) < 0) kept = -1;
      int reader = open("/tmp/fifo", O_RDONLY | O_NONBLOCK);
      if (write(kept, "x", 1) < 0 || close(reader) < 0) kept = -1;
    }
  } else if (!strcmp(what, "lostfifo")) {
    kept = mkfifo("/tmp/lost", 0600) == 0 ? open("/tmp/lost", O_RDWR) : -1;
    if (unlink("/tmp/lost") < 0) kept = -1;
  } else if (!strcmp(what, "filter")) {
    struct sock_filter all = {0x06, 0, 0, 0xffff};  // BPF_RET | BPF_K
    struct sock_fprog program = {1, &all};
    kept = socket(AF_INET, SOCK_DGRAM, 0);
    if (setsockopt(kept, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0) kept = -1;
  } else if (!strcmp(what, "secret")) {
    kept = (int)syscall(SYS_memfd_secret, 0);
    if (kept >= 0 && (ftruncate(kept, 4096) < 0 || mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, kept, 0) == MAP_FAILED)) kept = -1;
  } else if (!strcmp(what, "sysv")) {
    kept = shmat(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600), NULL, 0) == (void *)-1 ? -1 : 0;
  } else if (!strcmp(what, "semaphore")) {
    kept = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
  } else if (!strcmp(what, "linked")) {
    kept = open("/tmp/one", O_CREAT | O_RDWR, 0600);
    if (link("/tmp/one", "/tmp/two") < 0 || unlink("/tmp/one") < 0) kept = -1;
  } else if (!strcmp(what, "shmdir")) {
    kept = mkdir("/dev/shm/directory", 0700);
  } else if (!strcmp(what, "unsent")) {
    int pair[2];
    union {
      struct cmsghdr header;
      char space[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
    struct iovec vector = {"x", 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0) kept = (int)sendmsg(pair[0], &message, 0);
  } else if (!strcmp(what, "sender")) {
    int pair[2], one = 1;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one) == 0)
      kept = (int)write(pair[0], "x", 1);
  } else if (!strcmp(what, "named")) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/tmp/named"};
    int receiver = socket(AF_UNIX, SOCK_DGRAM, 0), sender = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (bind(receiver, (struct sockaddr *)&address, sizeof address) == 0)
      kept = (int)sendto(sender, "x", 1, 0, (struct sockaddr *)&address, sizeof address);
  } else if (!strcmp(what, "lease")) {
    kept = open("/tmp/leased", O_CREAT | O_RDONLY, 0600);
    if (fcntl(kept, F_SETLEASE, F_RDLCK) < 0) kept = -1;
  } else if (!strcmp(what, "threadtimer")) {
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    kept = timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer);
    pthread_t thread;
    pthread_create(&thread, NULL, wait_forever, NULL);
  } else {
    return 64;
  }
  if (kept < 0) return 65;
  wait_for_snapshot();
  succeeded();
}
