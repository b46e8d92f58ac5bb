// What is in a sandbox's /tmp from the beginning: a copy of a snapshot's, with modes, owners, times, hard links and inode numbers.
//
// Inode numbers matter: a program that had a file open or remembers its number finds it moved otherwise. SQLite, for one, refuses to write to a
// database that it opened before the snapshot ("attempt to write a readonly database"). A tmpfs gives numbers one after another, so the copies are made
// in the order of the numbers that the originals had, and numbers in between are used up.
#include "jailer.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>

// The original's inode number as text, which DirectoryCopy (Sources/Linux/FileStatus.swift) leaves on each copy.
#define INODE_ATTRIBUTE "trusted.thaw.inode"
// So many numbers are used up at most, a microsecond each; a /tmp that had more files before keeps no numbers beyond.
enum { LARGEST_GAP = 20000, DEEPEST = 64 };

struct entry {
  char *path; // below the seed
  struct stat status;
  uint64_t inode; // the original's; 0 if unknown
  unsigned index;
};
struct list {
  struct entry *entries;
  size_t count, room;
};

static int read_inode(int source, const char *path, uint64_t *inode) {
  char link[64 + 4096], text[24];
  snprintf(link, sizeof link, "/proc/self/fd/%d/%s", source, path);
  ssize_t length = lgetxattr(link, INODE_ATTRIBUTE, text, sizeof text - 1);
  if (length <= 0) return -1;
  text[length] = 0;
  *inode = strtoull(text, NULL, 10);
  return 0;
}

// Lists everything below `prefix` of the seed. Links are never followed.
static int gather(int source, const char *prefix, int depth, struct list *list, struct failure *failure) {
  int open_directory = openat(source, *prefix ? prefix : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  DIR *directory = open_directory < 0 || depth > DEEPEST ? NULL : fdopendir(open_directory);
  if (!directory) {
    if (open_directory >= 0) close(open_directory);
    if (depth > DEEPEST) errno = ENAMETOOLONG;
    return fail(failure, "open %s of the seed of /tmp", prefix);
  }
  int result = 0;
  for (struct dirent *item; result == 0 && (item = readdir(directory));) {
    if (!strcmp(item->d_name, ".") || !strcmp(item->d_name, "..")) continue;
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "/" : "", item->d_name) >= sizeof path) {
      errno = ENAMETOOLONG;
      result = fail(failure, "%s of the seed of /tmp", item->d_name);
      break;
    }
    if (list->count == list->room) {
      list->room = list->room ? list->room * 2 : 64;
      struct entry *more = realloc(list->entries, list->room * sizeof *more);
      if (!more) {
        result = fail(failure, "allocate");
        break;
      }
      list->entries = more;
    }
    struct entry *entry = &list->entries[list->count];
    *entry = (struct entry){.path = strdup(path)};
    if (!entry->path || fstatat(source, path, &entry->status, AT_SYMLINK_NOFOLLOW) < 0) {
      result = fail(failure, "stat %s", path);
      free(entry->path);
      break;
    }
    read_inode(source, path, &entry->inode);
    list->count++;
    if (S_ISDIR(entry->status.st_mode)) result = gather(source, path, depth + 1, list, failure);
  }
  closedir(directory);
  return result;
}

static int by_inode(const void *one, const void *other) {
  const struct entry *a = one, *b = other;
  return a->inode < b->inode ? -1 : a->inode > b->inode;
}
// A directory comes before what is in it: its path is a beginning of theirs.
static int by_path(const void *one, const void *other) { return strcmp(((const struct entry *)one)->path, ((const struct entry *)other)->path); }

static void temporary_name(char *name, size_t size, unsigned index) { snprintf(name, size, ".\1thaw-seed-%u", index); }

// Makes an empty file, directory, FIFO, or a link, under a temporary name at the top.
static int make(int source, int target, const struct entry *entry, const char *name) {
  mode_t kind = entry->status.st_mode & S_IFMT;
  if (kind == S_IFDIR) return mkdirat(target, name, 0700);
  if (kind == S_IFIFO) return mkfifoat(target, name, 0600);
  if (kind == S_IFLNK) {
    char link[4096];
    ssize_t length = readlinkat(source, entry->path, link, sizeof link - 1);
    if (length < 0) return -1;
    link[length] = 0;
    return symlinkat(link, target, name);
  }
  int file = openat(target, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
  if (file < 0) return -1;
  return close(file);
}

static int make_all(int source, int target, struct list *list, struct failure *failure) {
  qsort(list->entries, list->count, sizeof *list->entries, by_inode);
  struct stat status;
  // The root of a fresh tmpfs is 1 (shmem_get_inode in mm/shmem.c).
  uint64_t next = fstat(target, &status) < 0 ? 2 : status.st_ino + 1;
  uint64_t gaps = LARGEST_GAP;
  for (size_t i = 0; i < list->count; i++) {
    struct entry *entry = &list->entries[i];
    entry->index = (unsigned)i;
    char name[40];
    temporary_name(name, sizeof name, entry->index);
    if (entry->inode && i > 0 && entry[-1].inode == entry->inode && S_ISREG(entry->status.st_mode)) {
      char first[40];
      temporary_name(first, sizeof first, entry[-1].index);
      if (linkat(target, first, target, name, 0) < 0) return fail(failure, "link %s", entry->path);
      continue;
    }
    for (; entry->inode > next && gaps > 0; next++, gaps--) {
      int unused = openat(target, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
      if (unused < 0) return fail(failure, "use up an inode number of /tmp");
      close(unused);
    }
    if (make(source, target, entry, name) < 0) return fail(failure, "make %s", entry->path);
    if (fstatat(target, name, &status, AT_SYMLINK_NOFOLLOW) == 0) next = status.st_ino + 1;
  }
  return 0;
}

static int fill(int source, int target, const struct entry *entry, struct failure *failure) {
  int from = openat(source, entry->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  int to = openat(target, entry->path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  ssize_t count = from < 0 || to < 0 ? -1 : 1;
  while (count > 0) count = sendfile(to, from, NULL, 1 << 24);
  if (count < 0) fail(failure, "copy %s", entry->path);
  if (from >= 0) close(from);
  if (to >= 0) close(to);
  return count < 0 ? -1 : 0;
}

static int finish(int target, const struct entry *entry, struct failure *failure) {
  const struct stat *status = &entry->status;
  struct timespec times[2] = {status->st_atim, status->st_mtim};
  if (fchownat(target, entry->path, status->st_uid, status->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
      (!S_ISLNK(status->st_mode) && fchmodat(target, entry->path, status->st_mode & 07777, 0) < 0))
    return fail(failure, "chown %s", entry->path);
  utimensat(target, entry->path, times, AT_SYMLINK_NOFOLLOW);
  return 0;
}

int seed_copy(int source, int target, struct failure *failure) {
  struct list list = {0};
  int result = gather(source, "", 0, &list, failure);
  if (result == 0) result = make_all(source, target, &list, failure);
  if (result == 0) qsort(list.entries, list.count, sizeof *list.entries, by_path);
  for (size_t i = 0; i < list.count && result == 0; i++) {
    char name[40];
    temporary_name(name, sizeof name, list.entries[i].index);
    if (renameat(target, name, target, list.entries[i].path) < 0) result = fail(failure, "put %s into place", list.entries[i].path);
    else if (S_ISREG(list.entries[i].status.st_mode)) result = fill(source, target, &list.entries[i], failure);
  }
  // What is in a directory first: putting something there changes its times.
  for (size_t i = list.count; i > 0 && result == 0; i--) result = finish(target, &list.entries[i - 1], failure);
  for (size_t i = 0; i < list.count; i++) free(list.entries[i].path);
  free(list.entries);
  return result;
}
