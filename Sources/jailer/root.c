// The root file system of a sandbox: a small tmpfs with read-only binds of the host's programs, a private /tmp and /proc.
//
// The new mount calls (open_tree, mount_setattr, move_mount; kernel 5.12) need no path of the host inside the new tree, and one call each.
#include "jailer.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

static int bind(const char *source, const char *target, uint64_t attributes, struct failure *failure) {
  int tree = (int)syscall(SYS_open_tree, AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
  if (tree < 0) return fail(failure, "open_tree %s", source);
  struct mount_attr attribute = {.attr_set = attributes, .propagation = MS_PRIVATE};
  if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attribute, sizeof attribute) < 0) {
    fail(failure, "mount_setattr %s", source);
    close(tree);
    return -1;
  }
  int result = (int)syscall(SYS_move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
  if (result < 0) fail(failure, "move_mount %s", target);
  close(tree);
  return result;
}

// Makes the directories above `path` (relative to the new root), and `path` itself as a directory or an empty file.
static int make_place(const char *path, int is_directory, struct failure *failure) {
  char buffer[4096];
  if ((size_t)snprintf(buffer, sizeof buffer, "%s", path) >= sizeof buffer) {
    errno = ENAMETOOLONG;
    return fail(failure, "mount at %s", path);
  }
  for (char *slash = strchr(buffer + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    if (mkdir(buffer, 0755) < 0 && errno != EEXIST && errno != EROFS) return fail(failure, "mkdir %s", buffer);
    *slash = '/';
  }
  struct stat status;
  if (lstat(buffer, &status) == 0) return 0;
  if (is_directory) return mkdir(buffer, 0755) < 0 ? fail(failure, "mkdir %s", buffer) : 0;
  int file = open(buffer, O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (file < 0) return fail(failure, "create %s", buffer);
  close(file);
  return 0;
}

static int write_file(const char *path, const char *text, struct failure *failure) {
  int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC | O_TRUNC, 0644);
  if (file < 0 || write(file, text, strlen(text)) < 0) {
    fail(failure, "write %s", path);
    if (file >= 0) close(file);
    return -1;
  }
  close(file);
  return 0;
}

// What of the host is inside, if it is there: programs, libraries, and the few files of /etc that programs need.
static int bind_host(struct failure *failure) {
  static const char *const places[] = {"usr", "bin", "sbin", "lib", "lib64", "lib32", "libx32", "etc/ld.so.cache", "etc/ld.so.conf",
                                       "etc/ld.so.conf.d", "etc/ssl", "etc/ca-certificates", "etc/localtime", "etc/mime.types",
                                       "etc/alternatives", "etc/protocols", "etc/services"};
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    char host[64];
    snprintf(host, sizeof host, "/%s", places[i]);
    struct stat status;
    if (lstat(host, &status) < 0) continue;
    if (S_ISLNK(status.st_mode)) {
      char target[256];
      ssize_t length = readlink(host, target, sizeof target - 1);
      if (length < 0) return fail(failure, "readlink %s", host);
      target[length] = 0;
      if (symlink(target, places[i]) < 0) return fail(failure, "symlink %s", places[i]);
    } else {
      if (make_place(places[i], S_ISDIR(status.st_mode), failure) < 0) return -1;
      if (bind(host, places[i], MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, failure) < 0) return -1;
    }
  }
  return 0;
}

static int make_devices(struct failure *failure) {
  static const char *const nodes[] = {"dev/null", "dev/zero", "dev/full", "dev/random", "dev/urandom"};
  for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
    char host[32];
    snprintf(host, sizeof host, "/%s", nodes[i]);
    if (make_place(nodes[i], 0, failure) < 0 || bind(host, nodes[i], MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, failure) < 0) return -1;
  }
  static const char *const links[][2] = {
      {"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"}, {"/proc/self/fd/2", "dev/stderr"}};
  for (size_t i = 0; i < 4; i++)
    if (symlink(links[i][0], links[i][1]) < 0) return fail(failure, "symlink %s", links[i][1]);
  if (mkdir("dev/shm", 01777) < 0 || mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=64m,nr_inodes=1024") < 0)
    return fail(failure, "mount dev/shm");
  return 0;
}

// /proc of the new pid namespace, without what is of the whole machine. Writing there takes root, which nobody inside is: this is a second lock.
static int mount_proc(struct failure *failure) {
  if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) return fail(failure, "mount proc");
  if (bind("proc/sys", "proc/sys", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, failure) < 0) return -1;
  static const char *const masked[] = {"proc/kcore", "proc/keys", "proc/sysrq-trigger", "proc/timer_list"};
  for (size_t i = 0; i < sizeof masked / sizeof *masked; i++)
    if (access(masked[i], F_OK) == 0 && bind("/dev/null", masked[i], MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, failure) < 0) return -1;
  return 0;
}

int build_root(const struct jailer_sandbox *sandbox, const char *seed, const struct mount_request *mounts, struct failure *failure) {
  int seed_directory = -1;
  if (*seed) {
    seed_directory = open(seed, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (seed_directory < 0) return fail(failure, "open %s", seed);
  }
  if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return fail(failure, "make mounts private");
  if (mount("thaw", settings.root_directory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m,nr_inodes=1024") < 0)
    return fail(failure, "mount tmpfs at %s", settings.root_directory);
  if (chdir(settings.root_directory) < 0) return fail(failure, "chdir %s", settings.root_directory);
  umask(022);
  static const char *const directories[] = {"etc", "dev", "proc", "tmp", "var", "var/task", "var/runtime", "opt", "home", "mnt", "run", "root"};
  for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
    if (mkdir(directories[i], 0755) < 0) return fail(failure, "mkdir %s", directories[i]);
  if (bind_host(failure) < 0 || make_devices(failure) < 0) return -1;
  char text[512];
  snprintf(text, sizeof text,
           "root:x:0:0:root:/root:/usr/sbin/nologin\nsbx_user1051:x:%u:%u::/home:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n",
           sandbox->user, sandbox->user);
  if (write_file("etc/passwd", text, failure) < 0) return -1;
  snprintf(text, sizeof text, "root:x:0:\nsbx_user1051:x:%u:\nnogroup:x:65534:\n", sandbox->user);
  if (write_file("etc/group", text, failure) < 0) return -1;
  char host[64] = "";
  gethostname(host, sizeof host - 1);
  snprintf(text, sizeof text, "127.0.0.1 localhost %s\n", host);
  if (write_file("etc/hosts", text, failure) < 0 ||
      write_file("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n", failure) < 0 ||
      write_file("etc/resolv.conf", "", failure) < 0)
    return -1;
  for (int i = 0; i < sandbox->mount_count; i++) {
    struct stat status;
    const char *target = mounts[i].target + strspn(mounts[i].target, "/");
    if (stat(mounts[i].source, &status) < 0) return fail(failure, "stat %s", mounts[i].source);
    if (strstr(target, "..") || !*target) {
      errno = EINVAL;
      return fail(failure, "mount at /%s", target);
    }
    if (make_place(target, S_ISDIR(status.st_mode), failure) < 0) return -1;
    if (bind(mounts[i].source, target, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, failure) < 0) return -1;
  }
  if (mount_proc(failure) < 0) return -1;
  // One inode for every 4 KB, as a disk of that size would have.
  snprintf(text, sizeof text, "mode=1777,size=%llu,nr_inodes=%llu", (unsigned long long)sandbox->temporary_bytes,
           (unsigned long long)(sandbox->temporary_bytes / 4096 + 64));
  if (mount("tmp", "tmp", "tmpfs", MS_NOSUID | MS_NODEV, text) < 0) return fail(failure, "mount tmp");
  if (seed_directory >= 0) {
    int target = open("tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = target < 0 ? fail(failure, "open tmp") : seed_copy(seed_directory, target, failure);
    close(seed_directory);
    if (target >= 0) close(target);
    if (result < 0) return -1;
  }
  // pivot_root(2): with both arguments ".", the old root ends up under the new one and is detached.
  if (syscall(SYS_pivot_root, ".", ".") < 0) return fail(failure, "pivot_root");
  if (umount2(".", MNT_DETACH) < 0) return fail(failure, "detach the old root");
  if (chdir("/") < 0) return fail(failure, "chdir /");
  if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) < 0) return fail(failure, "make the root read-only");
  return 0;
}
