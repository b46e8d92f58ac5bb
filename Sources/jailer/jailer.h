// The jailer: the one part of Thaw that has privileges. It makes sandboxes and template processes on the daemon's word, and dies with the daemon.
#pragma once

#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "jailer_protocol.h"

// Where and as whom this jailer works; set once at the start.
struct settings {
  const char *root_directory; // an empty directory on which new root file systems are mounted (each in its own mount namespace)
  char instance[64];          // names this daemon's cgroups
};
extern struct settings settings;

// A step that failed, as text with its errno; the last one is kept.
struct failure {
  int error;
  char text[256];
};
__attribute__((format(printf, 2, 3))) int fail(struct failure *failure, const char *format, ...); // answers -1

// root.c: builds a root file system in the calling process's new mount namespace, and pivots into it.
struct mount_request {
  const char *source, *target;
};
int build_root(const struct jailer_sandbox *sandbox, const char *seed, const struct mount_request *mounts, struct failure *failure);

// seed.c: copies what is in `source` into the fresh tmpfs `target`, both open directories.
int seed_copy(int source, int target, struct failure *failure);

// cgroups.c
struct cgroup {
  char paths[JAILER_MAXIMUM_CGROUPS][256];
  int joins[JAILER_MAXIMUM_CGROUPS]; // files that a thread writes "0" to
  int count;
  int peak, kills, quota; // files, or -1
};
void cgroups_begin(char *warnings, size_t size); // finds the controllers, removes what a former jailer of this instance left
int cgroup_make(const char *name, const struct jailer_sandbox *limits, struct cgroup *cgroup, struct failure *failure);
void cgroup_close(struct cgroup *cgroup);  // closes the files
int cgroup_remove(struct cgroup *cgroup);  // answers 0 when the directories are gone
void cgroups_end(void);

// confine.c: what a program is stripped of before it runs.
int confine_prepare(struct failure *failure); // makes the seccomp filters
void confine_init(void);                      // pid 1 keeps what it needs to start the program
int confine(uint32_t user, struct failure *failure);

// sandbox.c
struct sandbox {
  struct sandbox *next;
  uint64_t id;
  pid_t init;
  int pidfd, control;
  uint32_t make_request, start_request, terminate_request; // requests that wait for an answer; 0: none
  int ready, started, dead;
  struct cgroup cgroup;
};
struct request_strings {
  const char *strings[JAILER_MAXIMUM_STRINGS];
  int count;
};
int parse_strings(const char *bytes, size_t length, struct request_strings *strings);
struct sandbox *sandbox_make(const struct jailer_sandbox *request, const struct request_strings *strings, struct failure *failure);
pid_t template_start(const struct jailer_sandbox *request, const struct request_strings *strings, const int *descriptors, int count,
                     struct failure *failure);

// wire.c
long send_message(int socket, const void *bytes, size_t length, const int *descriptors, int count);
long receive_message(int socket, void *bytes, size_t size, int *descriptors, int *count);
