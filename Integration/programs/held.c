// Memory that is locked, droppable, mergeable or sealed; locks for mappings to come; limits; how threads are scheduled and where.
#include "harness.h"

enum { PAGE = 4096 };
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

// VmFlags of the mapping that begins at an address, of /proc/self/smaps.
static int has_flag(void *address, const char *flag) {
  FILE *file = fopen("/proc/self/smaps", "r");
  char line[1024], range[32];
  int inside = 0, found = 0;
  snprintf(range, sizeof range, "%lx-", (unsigned long)address);
  while (file && fgets(line, sizeof line, file)) {
    if (line[0] < 'A' || line[0] > 'Z') inside = strncmp(line, range, strlen(range)) == 0;
    else if (inside && strncmp(line, "VmFlags:", 8) == 0) found = strstr(line, flag) != NULL;
  }
  if (file) fclose(file);
  return found;
}
static void *map(size_t pages) {
  void *result = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(result != MAP_FAILED);
  return result;
}

static int quit[2];
static volatile int other_is_right, other_waits;
static void *other(void *unused) {
  (void)unused;
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(0, &cpus);
  struct sched_param none = {0};
  CHECK(sched_setaffinity(0, sizeof cpus, &cpus) == 0 && sched_setscheduler(0, SCHED_BATCH, &none) == 0);
  CHECK(setpriority(PRIO_PROCESS, 0, 11) == 0);
  other_waits = 1;
  char byte;
  while (read(quit[0], &byte, 1) < 0 && errno == EINTR) {
  }
  cpu_set_t now;
  CHECK(sched_getaffinity(0, sizeof now, &now) == 0);
  other_is_right = CPU_EQUAL(&now, &cpus) && sched_getscheduler(0) == SCHED_BATCH && getpriority(PRIO_PROCESS, 0) == 11;
  return NULL;
}

int main(void) {
  unsigned char *locked = map(3), *on_fault = map(64), *mergeable = map(2), *sealed = map(2), *inaccessible = map(2);
  memset(locked, 1, 3 * PAGE);
  memset(mergeable, 3, 2 * PAGE);
  memset(sealed, 4, 2 * PAGE);
  CHECK(mlock(locked + PAGE, PAGE) == 0 && syscall(SYS_mlock2, on_fault, 64 * PAGE, 1 /* MLOCK_ONFAULT */) == 0);
  on_fault[5 * PAGE] = 2;
  CHECK(mprotect(inaccessible, 2 * PAGE, PROT_NONE) == 0);
  mlock(inaccessible, 2 * PAGE);
  int can_merge = madvise(mergeable, 2 * PAGE, MADV_MERGEABLE) == 0;
  CHECK(mprotect(sealed, 2 * PAGE, PROT_READ) == 0);
  int can_seal = syscall(462 /* mseal */, sealed, 2 * PAGE, 0) == 0;
  unsigned char *droppable = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0);
  int can_drop = droppable != MAP_FAILED;
  if (can_drop) memset(droppable, 5, 2 * PAGE);
  CHECK(pipe(quit) == 0);
  pthread_t thread;
  pthread_create(&thread, NULL, other, NULL);
  while (!other_waits) usleep(1000);
  CHECK(mlockall(MCL_FUTURE | MCL_ONFAULT) == 0);
  struct rlimit stack = {4 << 20, 16 << 20}, size = {1 << 30, 2L << 30}, processes = {500, 600}, core = {0, 0}, memory = {4 << 20, 8 << 20};
  CHECK(setrlimit(RLIMIT_STACK, &stack) == 0 && setrlimit(RLIMIT_FSIZE, &size) == 0 && setrlimit(RLIMIT_NPROC, &processes) == 0);
  CHECK(setrlimit(RLIMIT_CORE, &core) == 0 && setrlimit(RLIMIT_MEMLOCK, &memory) == 0);
  CHECK(setpriority(PRIO_PROCESS, 0, 3) == 0);
  int self = (int)syscall(SYS_pidfd_open, getpid(), 0), same = dup(self);
  CHECK(self >= 0 && same >= 0);

  wait_for_snapshot();

  CHECK(syscall(SYS_pidfd_send_signal, self, 0, NULL, 0) == 0 && syscall(SYS_pidfd_send_signal, same, 0, NULL, 0) == 0);
  CHECK((fcntl(self, F_GETFD) & FD_CLOEXEC) && !(fcntl(same, F_GETFD) & FD_CLOEXEC));

  unsigned char resident[64];
  CHECK(has_flag(locked + PAGE, " lo") && !has_flag(locked + PAGE, " lf") && locked[PAGE] == 1);
  CHECK(has_flag(on_fault, " lo") && has_flag(on_fault, " lf") && on_fault[5 * PAGE] == 2);
  CHECK(mincore(on_fault, 64 * PAGE, resident) == 0 && (resident[5] & 1) && !(resident[6] & 1));
  CHECK(has_flag(inaccessible, " lo"));
  CHECK(!can_merge || has_flag(mergeable, " mg"));
  CHECK(mergeable[PAGE] == 3 && sealed[PAGE] == 4);
  CHECK(!can_seal || (mprotect(sealed, PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EPERM && munmap(sealed, PAGE) == -1));
  if (can_drop) {
    CHECK(has_flag(droppable, " dp") && has_flag(droppable, " wf"));
    for (int i = 0; i < 2 * PAGE; i++) CHECK(droppable[i] == 0);
    droppable[7] = 7;
  }
  unsigned char *fresh = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(fresh != MAP_FAILED && has_flag(fresh, " lo") && has_flag(fresh, " lf"));
  struct rlimit now;
  CHECK(getrlimit(RLIMIT_STACK, &now) == 0 && now.rlim_cur == stack.rlim_cur && now.rlim_max == stack.rlim_max);
  CHECK(getrlimit(RLIMIT_FSIZE, &now) == 0 && now.rlim_cur == size.rlim_cur && now.rlim_max == size.rlim_max);
  CHECK(getrlimit(RLIMIT_NPROC, &now) == 0 && now.rlim_cur == processes.rlim_cur && now.rlim_max == processes.rlim_max);
  CHECK(getrlimit(RLIMIT_CORE, &now) == 0 && now.rlim_cur == 0 && now.rlim_max == 0);
  CHECK(getrlimit(RLIMIT_MEMLOCK, &now) == 0 && now.rlim_cur == memory.rlim_cur && now.rlim_max == memory.rlim_max);
  CHECK(getpriority(PRIO_PROCESS, 0) == 3 && sched_getscheduler(0) == SCHED_OTHER);
  CHECK(write(quit[1], "x", 1) == 1 && pthread_join(thread, NULL) == 0 && other_is_right);
  cpu_set_t cpus;
  CHECK(sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) == sysconf(_SC_NPROCESSORS_ONLN));
  succeeded();
}
