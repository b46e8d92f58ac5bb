// Holds one thing, named by the argument, that is not brought back (yet): the snapshot must be refused by name.
#include "harness.h"
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/shm.h>
#include <sys/un.h>

static void *wait_forever(void *unused) {
  for (;;) pause();
  return unused;
}

int main(int count, char **arguments) {
  const char *what = count > 1 ? arguments[1] : "";
  int kept = -1;
  if (!strcmp(what, "child")) {
    if (fork() == 0) {
      pause();
      _exit(0);
    }
  } else if (!strcmp(what, "inotify")) {
    kept = inotify_init();
  } else if (!strcmp(what, "secret")) {
    kept = (int)syscall(SYS_memfd_secret, 0);
    if (kept >= 0 && (ftruncate(kept, 4096) < 0 || mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, kept, 0) == MAP_FAILED)) kept = -1;
  } else if (!strcmp(what, "sysv")) {
    kept = shmat(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600), NULL, 0) == (void *)-1 ? -1 : 0;
  } else if (!strcmp(what, "linked")) {
    kept = open("/tmp/one", O_CREAT | O_RDWR, 0600);
    if (link("/tmp/one", "/tmp/two") < 0 || unlink("/tmp/one") < 0) kept = -1;
  } else if (!strcmp(what, "shmdir")) {
    kept = mkdir("/dev/shm/directory", 0700);
  } else if (!strcmp(what, "listening")) {
    kept = socket(AF_INET, SOCK_STREAM, 0);
    listen(kept, 1);
  } else if (!strcmp(what, "datagram")) {
    kept = socket(AF_INET, SOCK_DGRAM, 0);
  } else if (!strcmp(what, "locked")) {
    kept = open("/tmp/locked", O_CREAT | O_RDWR, 0600);
    flock(kept, LOCK_EX);
  } else if (!strcmp(what, "threadtimer")) {
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    kept = timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer);
    pthread_t thread;
    pthread_create(&thread, NULL, wait_forever, NULL);
  } else {
    return 64;
  }
  if (kept < 0 && strcmp(what, "child")) return 65;
  wait_for_snapshot();
  succeeded();
}
