// Limits: cgroup v2 where the controllers are there, v1 otherwise, none (with a warning) where neither can be written.
#include "jailer.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

// Where this instance's groups are: one directory for v2, one a controller for v1.
static struct {
  char path[200];
  const char *controller; // v1; NULL for v2
} bases[JAILER_MAXIMUM_CGROUPS];
static int base_count;

static int write_text(const char *directory, const char *file, const char *text) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", directory, file);
  int descriptor = open(path, O_WRONLY | O_CLOEXEC);
  if (descriptor < 0) return -1;
  ssize_t result = write(descriptor, text, strlen(text));
  close(descriptor);
  return result < 0 ? -1 : 0;
}

static int write_number(const char *directory, const char *file, uint64_t number) {
  char text[32];
  snprintf(text, sizeof text, "%llu", (unsigned long long)number);
  return write_text(directory, file, text);
}

// The path of this process in a hierarchy: /proc/self/cgroup has lines "number:controllers:path".
static int own_path(const char *controller, char *path, size_t size) {
  FILE *file = fopen("/proc/self/cgroup", "re");
  char line[512];
  int found = 0;
  while (file && !found && fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    char *controllers = strchr(line, ':'), *where = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!where) continue;
    *where++ = 0;
    controllers++;
    if (controller ? strcmp(controllers, controller) == 0 : *controllers == 0) {
      snprintf(path, size, "%s", strcmp(where, "/") == 0 ? "" : where);
      found = 1;
    }
  }
  if (file) fclose(file);
  return found;
}

// Kills what is left in a group and removes it with the groups below.
static void remove_group(const char *path) {
  DIR *directory = opendir(path);
  if (!directory) return;
  for (struct dirent *entry; (entry = readdir(directory));) {
    if (entry->d_type != DT_DIR || entry->d_name[0] == '.') continue;
    char below[512];
    snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
    remove_group(below);
  }
  closedir(directory);
  for (int attempt = 0; attempt < 200 && rmdir(path) < 0 && errno == EBUSY; attempt++) {
    char file[512];
    snprintf(file, sizeof file, "%s/cgroup.procs", path);
    FILE *list = fopen(file, "re");
    long process;
    while (list && fscanf(list, "%ld", &process) == 1) kill((pid_t)process, SIGKILL);
    if (list) fclose(list);
    usleep(5000);
  }
}

static int begin_at(const char *root, const char *controller, char *warnings, size_t size) {
  char own[128] = "";
  if (!own_path(controller, own, sizeof own)) return 0;
  char *path = bases[base_count].path;
  if ((size_t)snprintf(path, sizeof bases[0].path, "%s%s/thaw-%s", root, own, settings.instance) >= sizeof bases[0].path) return 0;
  remove_group(path);
  if (mkdir(path, 0755) < 0) {
    size_t used = strlen(warnings);
    snprintf(warnings + used, size - used, "no limits of %s: cannot make %s: %s\n", controller ? controller : "cgroup v2", path, strerror(errno));
    return 0;
  }
  bases[base_count++].controller = controller;
  return 1;
}

void cgroups_begin(char *warnings, size_t size) {
  char controllers[256] = "";
  int file = open("/sys/fs/cgroup/cgroup.controllers", O_RDONLY | O_CLOEXEC);
  if (file >= 0) {
    ssize_t length = read(file, controllers, sizeof controllers - 1);
    controllers[length > 0 ? length : 0] = 0;
    close(file);
  }
  if (strstr(controllers, "memory")) {
    if (begin_at("/sys/fs/cgroup", NULL, warnings, size) && write_text(bases[0].path, "cgroup.subtree_control", "+memory +cpu +pids") < 0) {
      size_t used = strlen(warnings);
      snprintf(warnings + used, size - used, "no limits: cannot enable the controllers below %s: %s\n", bases[0].path, strerror(errno));
    }
    return;
  }
  static const char *const names[] = {"memory", "cpu", "pids"};
  for (size_t i = 0; i < 3; i++) {
    char root[64];
    snprintf(root, sizeof root, "/sys/fs/cgroup/%s", names[i]);
    if (access(root, F_OK) == 0) begin_at(root, names[i], warnings, size);
    else {
      size_t used = strlen(warnings);
      snprintf(warnings + used, size - used, "no limits of %s: this host has no such cgroup controller\n", names[i]);
    }
  }
}

void cgroups_end(void) {
  for (int i = 0; i < base_count; i++) remove_group(bases[i].path);
}

static int open_in(const char *directory, const char *name, int flags) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  return open(path, flags | O_CLOEXEC);
}

int cgroup_make(const char *name, const struct jailer_sandbox *limits, struct cgroup *cgroup, struct failure *failure) {
  cgroup->count = 0;
  cgroup->peak = cgroup->kills = cgroup->quota = -1;
  for (int i = 0; i < base_count; i++) {
    char *path = cgroup->paths[cgroup->count];
    snprintf(path, sizeof cgroup->paths[0], "%s/%s", bases[i].path, name);
    if (mkdir(path, 0755) < 0 && errno != EEXIST) return fail(failure, "mkdir %s", path);
    cgroup->joins[cgroup->count++] = -1;
    const char *controller = bases[i].controller;
    // /tmp is a tmpfs, whose pages the kernel counts as memory of whoever writes them. On Lambda /tmp is a disk and costs no memory, so that
    // the limit is raised by its size: a function that fills /tmp gets ENOSPC, not the out-of-memory killer.
    uint64_t memory = limits ? limits->memory_bytes + limits->temporary_bytes : 0;
    if (limits && (!controller || !strcmp(controller, "memory"))) {
      if (write_number(path, controller ? "memory.limit_in_bytes" : "memory.max", memory) < 0) return fail(failure, "limit the memory of %s", path);
      write_number(path, controller ? "memory.memsw.limit_in_bytes" : "memory.swap.max", controller ? memory : 0);
      if (!controller) write_text(path, "memory.oom.group", "1");
      cgroup->peak = open_in(path, controller ? "memory.max_usage_in_bytes" : "memory.peak", O_RDONLY);
      cgroup->kills = open_in(path, controller ? "memory.oom_control" : "memory.events", O_RDONLY);
    }
    // The CPU limit is written when init or restore is over: like Lambda, Thaw gives them whole CPUs.
    if (limits && (!controller || !strcmp(controller, "cpu"))) cgroup->quota = open_in(path, controller ? "cpu.cfs_quota_us" : "cpu.max", O_WRONLY);
    if (limits && (!controller || !strcmp(controller, "pids")))
      if (write_number(path, "pids.max", limits->maximum_tasks) < 0) return fail(failure, "limit the processes of %s", path);
    // A thread that writes "0" to the v1 file `tasks` moves only itself, which needs no lock of all thread groups.
    int join = open_in(path, controller ? "tasks" : "cgroup.procs", O_WRONLY);
    if (join < 0) return fail(failure, "open the tasks of %s", path);
    cgroup->joins[cgroup->count - 1] = join;
  }
  return 0;
}

void cgroup_close(struct cgroup *cgroup) {
  for (int i = 0; i < cgroup->count; i++)
    if (cgroup->joins[i] >= 0) close(cgroup->joins[i]);
  if (cgroup->peak >= 0) close(cgroup->peak);
  if (cgroup->kills >= 0) close(cgroup->kills);
  if (cgroup->quota >= 0) close(cgroup->quota);
  for (int i = 0; i < cgroup->count; i++) cgroup->joins[i] = -1;
  cgroup->peak = cgroup->kills = cgroup->quota = -1;
}

int cgroup_remove(struct cgroup *cgroup) {
  while (cgroup->count > 0) {
    if (rmdir(cgroup->paths[cgroup->count - 1]) < 0 && errno != ENOENT) return -1;
    cgroup->count--;
  }
  return 0;
}
