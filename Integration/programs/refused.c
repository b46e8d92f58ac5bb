// Holds one thing, named by the argument, that is not brought back (yet): the snapshot must be refused by name.
#include "harness.h"
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/un.h>

int main(int count, char **arguments) {
  const char *what = count > 1 ? arguments[1] : "";
  int kept = -1;
  if (!strcmp(what, "child")) {
    if (fork() == 0) {
      pause();
      _exit(0);
    }
  } else if (!strcmp(what, "timerfd")) {
    kept = timerfd_create(CLOCK_MONOTONIC, 0);
  } else if (!strcmp(what, "signalfd")) {
    sigset_t set;
    sigemptyset(&set);
    kept = signalfd(-1, &set, 0);
  } else if (!strcmp(what, "inotify")) {
    kept = inotify_init();
  } else if (!strcmp(what, "memfd")) {
    kept = memfd_create("kept", 0);
  } else if (!strcmp(what, "shared")) {
    kept = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0;
  } else if (!strcmp(what, "listening")) {
    kept = socket(AF_INET, SOCK_STREAM, 0);
    listen(kept, 1);
  } else if (!strcmp(what, "datagram")) {
    kept = socket(AF_INET, SOCK_DGRAM, 0);
  } else if (!strcmp(what, "deleted")) {
    kept = open("/tmp/gone", O_CREAT | O_RDWR, 0600);
    unlink("/tmp/gone");
  } else if (!strcmp(what, "locked")) {
    kept = open("/tmp/locked", O_CREAT | O_RDWR, 0600);
    flock(kept, LOCK_EX);
  } else if (!strcmp(what, "pending")) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    kept = 0;
  } else if (!strcmp(what, "timer")) {
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    kept = timer_create(CLOCK_MONOTONIC, &event, &timer);
  } else {
    return 64;
  }
  if (kept < 0 && strcmp(what, "child")) return 65;
  wait_for_snapshot();
  succeeded();
}
