// Watches with gaps in their numbers, locks of every kind, FIFOs with bytes inside.
#include "harness.h"
#include <poll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/wait.h>

static struct inotify_event *next_event(int watcher) {
  static char buffer[4096] __attribute__((aligned(8)));
  static char *position, *end;
  if (position == end) {
    ssize_t length = read(watcher, buffer, sizeof buffer);
    if (length <= 0) return NULL;
    position = buffer;
    end = buffer + length;
  }
  struct inotify_event *event = (void *)position;
  position += sizeof *event + event->len;
  return event;
}
static void expect(int watcher, int watch, uint32_t mask, const char *name) {
  struct inotify_event *event = next_event(watcher);
  if (!event) failed("no event %x of watch %d", mask, watch);
  if (event->wd != watch || event->mask != mask || strcmp(event->len ? event->name : "", name) != 0)
    failed("event %x %s of watch %d instead of %x %s of %d", event->mask, event->len ? event->name : "", event->wd, mask, name, watch);
}
static int is_locked(int file, int kind, short type, off_t start, off_t length, off_t expected_start, off_t expected_length) {
  struct flock lock = {.l_type = type, .l_start = start, .l_len = length};
  CHECK(fcntl(file, kind, &lock) == 0);
  return lock.l_type != F_UNLCK && lock.l_start == expected_start && lock.l_len == expected_length;
}
// POSIX locks are seen by other processes only.
static int seen_by_child(const char *path, short type, off_t start, off_t length, off_t expected_start, off_t expected_length, pid_t owner) {
  pid_t child = fork();
  if (child == 0) {
    int file = open(path, O_RDWR);
    struct flock lock = {.l_type = type, .l_start = start, .l_len = length};
    if (fcntl(file, F_GETLK, &lock) < 0) _exit(2);
    _exit(lock.l_type != F_UNLCK && lock.l_start == expected_start && lock.l_len == expected_length && lock.l_pid == owner ? 0 : 1);
  }
  siginfo_t information;
  CHECK(child > 0 && waitid(P_PID, (id_t)child, &information, WEXITED) == 0);
  return information.si_status == 0;
}

int main(void) {
  int watcher = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  CHECK(mkdir("/tmp/watched", 0700) == 0 && mkdir("/tmp/watched/inner", 0700) == 0);
  int seen = open("/tmp/watched/file", O_CREAT | O_RDWR, 0600);
  int gone = inotify_add_watch(watcher, "/tmp/watched/inner", IN_CREATE);
  int directory = inotify_add_watch(watcher, "/tmp/watched", IN_CREATE | IN_DELETE | IN_MOVED_FROM);
  int other = inotify_add_watch(watcher, "/tmp", IN_ATTRIB);
  CHECK(inotify_rm_watch(watcher, gone) == 0 && next_event(watcher)->mask == IN_IGNORED);
  int file = inotify_add_watch(watcher, "/tmp/watched/file", IN_MODIFY | IN_CLOSE_WRITE | IN_OPEN);
  int code = inotify_add_watch(watcher, "/var/task", IN_CREATE), libraries = inotify_add_watch(watcher, "/usr/lib", IN_CREATE);
  CHECK(gone == 1 && directory == 2 && other == 3 && file == 4 && code == 5 && libraries == 6);
  int set = epoll_create1(0);
  struct epoll_event item = {.events = EPOLLIN, .data.u32 = 4};
  CHECK(epoll_ctl(set, EPOLL_CTL_ADD, watcher, &item) == 0);
  unsigned char *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, seen, 0);
  CHECK(mapped != MAP_FAILED);

  int whole = open("/tmp/whole", O_CREAT | O_RDWR, 0600), shared = open("/tmp/shared", O_CREAT | O_RDWR, 0600);
  CHECK(flock(whole, LOCK_EX) == 0 && flock(shared, LOCK_SH) == 0);
  int copy = dup(whole);
  int ranges = open("/tmp/ranges", O_CREAT | O_RDWR, 0600);
  struct flock lock = {.l_type = F_WRLCK, .l_start = 100, .l_len = 50};
  CHECK(fcntl(ranges, F_SETLK, &lock) == 0);
  lock = (struct flock){.l_type = F_RDLCK, .l_start = 1000, .l_len = 0};
  CHECK(fcntl(ranges, F_SETLK, &lock) == 0);
  int description = open("/tmp/description", O_CREAT | O_RDWR, 0600);
  lock = (struct flock){.l_type = F_WRLCK, .l_start = 7, .l_len = 3};
  CHECK(fcntl(description, F_OFD_SETLK, &lock) == 0);
  int deleted = open("/tmp/deleted", O_CREAT | O_RDWR, 0600);
  lock = (struct flock){.l_type = F_WRLCK, .l_start = 0, .l_len = 1};
  CHECK(fcntl(deleted, F_SETLK, &lock) == 0 && unlink("/tmp/deleted") == 0);

  CHECK(mkfifo("/tmp/fifo", 0620) == 0 && chmod("/tmp/fifo", 0620) == 0 && mkfifo("/tmp/both", 0600) == 0 && mkfifo("/tmp/unopened", 0600) == 0);
  int reader = open("/tmp/fifo", O_RDONLY | O_NONBLOCK), writer = open("/tmp/fifo", O_WRONLY | O_CLOEXEC);
  CHECK(reader >= 0 && writer >= 0 && fcntl(reader, F_SETFL, 0) == 0 && write(writer, "through a fifo", 14) == 14);
  int both = open("/tmp/both", O_RDWR);
  CHECK(write(both, "to myself", 9) == 9 && fcntl(both, F_SETPIPE_SZ, 8192) == 8192);

  // Inode numbers, with gaps, made in another order than the names have; hard links; a file that was put into an older directory.
  CHECK(close(open("/tmp/z first", O_CREAT | O_WRONLY, 0600)) == 0);
  for (int i = 0; i < 50; i++) CHECK(close(open("/tmp/short-lived", O_CREAT | O_WRONLY, 0600)) == 0 && unlink("/tmp/short-lived") == 0);
  CHECK(mkdir("/tmp/young", 0710) == 0 && rename("/tmp/z first", "/tmp/young/z") == 0 && symlink("z", "/tmp/young/link") == 0);
  CHECK(close(open("/tmp/a last", O_CREAT | O_WRONLY, 0604)) == 0 && link("/tmp/a last", "/tmp/young/other name") == 0);
  static const char *const paths[] = {"/tmp", "/tmp/young", "/tmp/young/z", "/tmp/young/link", "/tmp/a last", "/tmp/young/other name", "/tmp/watched",
                                      "/tmp/watched/inner", "/tmp/watched/file", "/tmp/whole", "/tmp/fifo"};
  enum { PATHS = sizeof paths / sizeof *paths };
  struct stat before[PATHS];
  for (int i = 0; i < PATHS; i++) CHECK(lstat(paths[i], &before[i]) == 0);

  wait_for_snapshot();

  for (int i = 0; i < PATHS; i++) {
    struct stat now;
    CHECK(lstat(paths[i], &now) == 0);
    if (now.st_ino != before[i].st_ino || now.st_mode != before[i].st_mode || now.st_nlink != before[i].st_nlink || now.st_uid != before[i].st_uid ||
        (i > 0 && i < PATHS - 1 && now.st_mtim.tv_nsec != before[i].st_mtim.tv_nsec))
      failed("%s: inode %lu instead of %lu, mode %o instead of %o, %lu names instead of %lu", paths[i], now.st_ino, before[i].st_ino, now.st_mode,
             before[i].st_mode, now.st_nlink, before[i].st_nlink);
  }

  // Making the clone was seen by nobody.
  CHECK(next_event(watcher) == NULL && errno == EAGAIN && fcntl(watcher, F_GETFD) == FD_CLOEXEC);
  CHECK(close(open("/tmp/watched/new", O_CREAT | O_WRONLY, 0600)) == 0);
  expect(watcher, directory, IN_CREATE, "new");
  CHECK(write(seen, "x", 1) == 1);
  struct epoll_event found;
  CHECK(epoll_wait(set, &found, 1, 1000) == 1 && found.data.u32 == 4);
  expect(watcher, file, IN_MODIFY, "");
  CHECK(mapped[0] == 'x');
  CHECK(chmod("/tmp/fifo", 0600) == 0);
  expect(watcher, other, IN_ATTRIB, "fifo");
  // Directories that all sandboxes see: a watch of the same one is the same watch.
  CHECK(inotify_add_watch(watcher, "/var/task", IN_CREATE) == code && inotify_add_watch(watcher, "/usr/lib", IN_CREATE) == libraries);
  CHECK(inotify_rm_watch(watcher, libraries) == 0 && inotify_rm_watch(watcher, gone) == -1);
  CHECK(inotify_add_watch(watcher, "/tmp/watched/inner", IN_CREATE) == 7);

  int again = open("/tmp/whole", O_RDWR);
  CHECK(flock(again, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK);
  CHECK(close(whole) == 0 && flock(again, LOCK_SH | LOCK_NB) == -1 && close(copy) == 0 && flock(again, LOCK_SH | LOCK_NB) == 0);
  again = open("/tmp/shared", O_RDWR);
  CHECK(flock(again, LOCK_EX | LOCK_NB) == -1 && flock(again, LOCK_SH | LOCK_NB) == 0);
  CHECK(seen_by_child("/tmp/ranges", F_RDLCK, 0, 1000, 100, 50, getpid()));
  CHECK(seen_by_child("/tmp/ranges", F_WRLCK, 900, 0, 1000, 0, getpid()) && !seen_by_child("/tmp/ranges", F_RDLCK, 900, 0, 1000, 0, getpid()));
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd/%d", getpid(), deleted);
  CHECK(seen_by_child(path, F_RDLCK, 0, 0, 0, 1, getpid()));
  again = open("/tmp/description", O_RDWR);
  CHECK(is_locked(again, F_OFD_GETLK, F_WRLCK, 0, 0, 7, 3) && !is_locked(description, F_OFD_GETLK, F_WRLCK, 0, 0, 7, 3));

  char buffer[64];
  CHECK(read(reader, buffer, 64) == 14 && memcmp(buffer, "through a fifo", 14) == 0);
  CHECK(write(writer, "more", 4) == 4 && read(reader, buffer, 64) == 4 && fcntl(writer, F_GETFD) == FD_CLOEXEC);
  CHECK(close(writer) == 0 && read(reader, buffer, 64) == 0);
  CHECK(read(both, buffer, 64) == 9 && memcmp(buffer, "to myself", 9) == 0 && fcntl(both, F_GETPIPE_SZ) == 8192);
  struct stat status;
  CHECK(stat("/tmp/unopened", &status) == 0 && S_ISFIFO(status.st_mode) && status.st_uid == getuid());
  succeeded();
}
