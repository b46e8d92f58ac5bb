// What the daemon and the jailer say to each other over a SOCK_SEQPACKET socket: one definition for Swift and C. Little-endian, native alignment.
//
// Every message begins with struct jailer_header. Requests carry their strings behind the fixed part, each ended by a NUL byte.
#pragma once

#include <stdint.h>

#define JAILER_CONTROL_DESCRIPTOR 3 // of the jailer, at its start
#define JAILER_MAXIMUM_MESSAGE 131072
#define JAILER_MAXIMUM_MOUNTS 64
#define JAILER_MAXIMUM_STRINGS 1024
#define JAILER_MAXIMUM_CGROUPS 4
#define JAILER_RUNTIME_PROCESS 2 // process id of a sandbox's program inside it

enum jailer_message {
  // Requests of the daemon, each answered with the same `request` number by JAILER_ANSWER.
  JAILER_MAKE_SANDBOX = 1,   // struct jailer_sandbox; strings: seed ("" for none), then source and target of each mount
  JAILER_START = 2,          // struct jailer_start; strings: directory, arguments, environment
  JAILER_TERMINATE = 3,      // struct jailer_header and the sandbox: answered when nothing is left of it
  JAILER_START_TEMPLATE = 4, // struct jailer_sandbox; strings as above; descriptors: the executable, then its 0, 1, 2...
  JAILER_KILL = 5,           // struct jailer_kill; a template; not answered: JAILER_EXITED tells its end
  // The jailer's own.
  JAILER_ANSWER = 16, // struct jailer_answer; a text behind it if `error` is not 0
  JAILER_EXITED = 17, // struct jailer_exited
  JAILER_HELLO = 18,  // struct jailer_answer, request 0: ready; a text behind it: warnings, one a line
};

struct jailer_header {
  uint32_t type;
  uint32_t request;
};

struct jailer_sandbox {
  struct jailer_header header;
  uint64_t temporary_bytes; // size of /tmp
  uint64_t memory_bytes;    // limit of what the processes hold besides /tmp
  uint32_t maximum_tasks;
  uint32_t unused;
  uint32_t user;
  uint16_t port;
  uint16_t mount_count;
};

struct jailer_start {
  struct jailer_header header;
  uint64_t sandbox;
  uint32_t argument_count;
  uint32_t environment_count;
};

struct jailer_terminate {
  struct jailer_header header;
  uint64_t sandbox;
};

struct jailer_kill {
  struct jailer_header header;
  int32_t process;
  int32_t unused;
};

struct jailer_answer {
  struct jailer_header header;
  int32_t error;   // errno, or 0
  int32_t process; // MAKE_SANDBOX: pid 1; START, START_TEMPLATE: the program; as the jailer sees them
  uint64_t sandbox;
  uint16_t port;     // MAKE_SANDBOX: local port of the connection
  uint16_t cgroups;  // MAKE_SANDBOX: how many cgroup files to join by
  uint16_t measures; // MAKE_SANDBOX: which files come along, JAILER_HAS_...
  uint16_t unused;
};
// Descriptors of an answer to MAKE_SANDBOX: pidfd of pid 1, listener, connection, reading and writing end of the output pipe, cgroup
// files, then the files of `measures`.
#define JAILER_HAS_MEMORY 1 // two: peak memory, out-of-memory kills
#define JAILER_HAS_CPU 2    // one: the CPU limit, to be written: cpu.cfs_quota_us (v1, period 100 ms) or cpu.max (v2)

struct jailer_exited {
  struct jailer_header header;
  int32_t process;
  int32_t status; // as wait(2) answers it
  uint64_t sandbox; // 0 if the jailer does not know: a restored process, a template
};
