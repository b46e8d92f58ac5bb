// The binary layout of a restore program and of the messages to the restorer: one definition, for the compiler (Swift, in Restore/) and for
// the restorer (freestanding C, in restorer/). All addresses are addresses in the process that is being made.
#pragma once

#include <stdint.h>

#define RESTORE_PROGRAM_MAGIC 0x31474f5257414854ULL /* "THAWROG1" */

// Addresses of the restorer's own memory: below any executable (non-PIE ones start at 0x400000), above vm.mmap_min_addr.
#define RESTORER_BASE 0x10000ULL
#define RESTORE_PROGRAM_BASE 0x40000ULL
#define RESTORER_END 0x3f0000ULL
#define RESTORE_PROGRAM_END 0x3e0000ULL
// Where the vDSO waits while it moves by less than its length.
#define RESTORE_VDSO_STOP 0x3e0000ULL
#define RESTORE_VDSO_ROOM 0xe000ULL
// A page that a template shares with its spare: struct restore_spare.
#define RESTORE_SPARE 0x3ee000ULL
// A page that all processes of a clone share while they are made, where there are several: struct restore_shared.
#define RESTORE_SHARED 0x3ef000ULL

#define RESTORE_SLOTS 256

// What to do with a system call's result.
enum restore_check {
  RESTORE_MUST_SUCCEED = 0, // a result in [-4095, -1] ends the restore
  RESTORE_MAY_FAIL = 1,
  RESTORE_MUST_EQUAL_FIRST = 2, // such as mmap(MAP_FIXED): the result must equal argument 0
  RESTORE_MUST_EQUAL_LAST = 3,  // such as preadv: the result must equal argument 5, which the call does not use
};

// Operations that are not system calls have numbers from here on.
enum restore_operation {
  RESTORE_OP_MOVE = 0xF000,          // descriptor in slot a0 becomes number a1, with flags a2 (dup3); the slot's own number is closed
  RESTORE_OP_POKE32 = 0xF001,        // *(uint32_t *)a0 = slot[a1]
  RESTORE_OP_LOAD_PAIR = 0xF002,     // slot[a1], slot[a1 + 1] = ((uint32_t *)a0)[0], [1]: what pipe2 and socketpair answered
  RESTORE_OP_WAIT_THREADS = 0xF003,  // wait until all threads have said that they are ready
  RESTORE_OP_FORK = 0xF004,          // make the process whose struct restore_program is at a0; its parent gets signal a1 when it ends; a2: enum restore_end
  RESTORE_OP_MOVE_VDSO = 0xF005,     // the vDSO and its data, which begin at a0, come to where this process has them
  RESTORE_OP_ADD = 0xF006,           // one more in the counter at a0, of struct restore_shared; who waits is woken
  RESTORE_OP_WAIT = 0xF007,          // wait until the counter at a0 says a1 or more, half a minute at most
};

// What becomes of a process while the others are made.
enum restore_end { RESTORE_STAYS = 0, RESTORE_EXITS = 1, RESTORE_MAY_BE_KILLED = 2 };

// What the processes of a clone tell each other: how many exist, have become leaders of their groups, have joined the groups of others, have mapped what
// they share, are whole; that time may pass for them; how many have nothing left to do for us; and that they may leave.
struct restore_shared {
  uint32_t grouped, joined, mapped, ready, go, made, released, leave;
};

// One entry of the flat table: a system call with its six arguments.
struct restore_op {
  uint16_t number;     // system call number or enum restore_operation
  uint8_t check;       // enum restore_check
  uint8_t result_slot; // slot that keeps the result; 0: none
  uint32_t slot_mask;  // bit k: argument k is the number of a slot, whose value is meant
  uint64_t arguments[6];
};

// A run of operations.
struct restore_phase {
  uint64_t address;
  uint64_t count;
};

// struct clone_args of linux/sched.h, version 2.
struct restore_clone_arguments {
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

// A thread other than the main one.
struct restore_thread {
  uint64_t frame;   // address of the ucontext for rt_sigreturn
  uint64_t gs_base;
  struct restore_phase phase; // run by the thread itself
  struct restore_clone_arguments clone;
  uint64_t next; // address of the thread that this one lets go before it goes itself, or 0
  uint32_t go;   // a futex; 0 in the file
};

struct restore_program {
  uint64_t magic;
  uint64_t size; // bytes of the whole program, this header included
  uint64_t vvar_start, vvar_length, vvar_vclock_length, vdso_length; // contiguous, in this order; lengths 0 where absent
  uint64_t main_process_id;  // inside the sandbox
  uint64_t monotonic, boottime; // what these clocks said at the snapshot, nanoseconds: they go on from there
  uint64_t descriptor_base;  // descriptors from here on are the restorer's own while it works
  struct restore_phase memory;   // once, in the template
  struct restore_phase instance; // in every clone: descriptors and process state
  struct restore_phase main;     // in every clone, when all threads exist
  struct restore_phase release;  // in every clone, when it is to run: what makes time pass for it (timers)
  struct restore_phase seal;     // in every clone, last of all: system call filters of the program's own, which may forbid what came before
  uint64_t threads, thread_count; // array of struct restore_thread
  uint64_t main_frame, main_fs_base, main_gs_base;
  uint64_t processes;        // how many stay, where several are made, which share RESTORE_SHARED; else 0
  uint64_t first[2];  // addresses of the threads that the main one lets go, or 0
  uint64_t ready;     // a futex: how many threads wait to be let go; 0 in the file
  uint64_t made;      // whether the process has been forked, as its parent knows; 0 in the file
  uint64_t slots[RESTORE_SLOTS];
};

// Slots that the restorer fills itself: the image (while the template is built) and the supplied descriptors (in a clone).
#define RESTORE_SLOT_IMAGE 1
#define RESTORE_SLOT_SUPPLIED 2 // one for each role
#define RESTORE_SLOT_FREE 8     // the compiler's own begin here

// What clones are known to do with a range of pages.
enum restore_use {
  RESTORE_USE_WRITTEN = 0, // they write it
  RESTORE_USE_READ = 1,    // they read it: pages of a file
  RESTORE_USE_OWN = 2,     // one page of a private mapping of a file, which becomes the template's own: a fork copies a mapping's page table only if it has one
  RESTORE_USE_WATCHED = 3, // a mapping of a file, of which it is not known yet what is read
  RESTORE_USES = 4,
};

// Daemon to template, with descriptors: the sandbox's pidfd, `cgroups` descriptors of cgroup files, `supplied` descriptors, and for an armed clone
// the eventfd that it waits on. With RESTORE_ORDER_WORKING_SET there are no descriptors, and struct restore_range follow, use by use.
struct restore_order {
  uint32_t id;
  uint32_t cgroups;
  uint32_t supplied;
  uint32_t flags;
  uint32_t ranges[RESTORE_USES]; // how many follow of each use; all in all at most RESTORE_WORKING_SET_RANGES
};
#define RESTORE_ORDER_DESCRIPTORS 16
#define RESTORE_ORDER_TOUCH 1       // flags: have the working set's pages there first, so that user code does not fault on each
#define RESTORE_ORDER_ARM 2         // flags: wait for the eventfd before the first instruction of user code
#define RESTORE_ORDER_WORKING_SET 4 // flags: no clone; what follows replaces the template's working set
#define RESTORE_ORDER_WATCH 8       // flags: the clone maps pages of the watched mappings one by one, as it needs them; a report brings the userfaultfd
#define RESTORE_WORKING_SET_RANGES 4096
#define RESTORE_AHEAD_BYTES (32ULL << 20) // of written pages at most, which a spare has ahead: no clone's memory limit counts them

enum restore_spare_state {
  RESTORE_SPARE_BEGUN = 0,   // it is not ready yet
  RESTORE_SPARE_READY = 1,   // it waits for an order
  RESTORE_SPARE_ORDERED = 2, // it has one
  RESTORE_SPARE_CLONES = 3,  // it carries it out
  RESTORE_SPARE_CLONED = 4,  // it has carried it out: `result`
  RESTORE_SPARE_DROPPED = 5, // it is to end
};

// What a template and its spare tell each other. They have the same descriptors.
struct restore_spare {
  uint32_t state; // enum restore_spare_state; a futex
  uint32_t count; // of the order's descriptors
  struct restore_order order;
  uint32_t descriptors[RESTORE_ORDER_DESCRIPTORS];
  uint64_t ordered; // when the order came
  int64_t result;   // the clone's process id as the template sees it, or -errno
};

// Whole pages, as struct iovec of linux/uio.h.
struct restore_range {
  uint64_t start, length; // bytes
};

enum restore_report_kind {
  RESTORE_REPORT_TEMPLATE = 1, // the template is ready
  RESTORE_REPORT_CLONED = 2,   // value: the clone's process id as the template sees it, or -errno
  RESTORE_REPORT_DONE = 3,     // the clone is about to run user code
  RESTORE_REPORT_FAILED = 4,   // value: -errno of the operation described
  RESTORE_REPORT_ARMED = 5,    // the clone waits for its eventfd
  RESTORE_REPORT_WATCHED = 6,  // with a descriptor: as long as it is open, the clone maps pages of the watched mappings one by one
};

enum restore_phase_name {
  RESTORE_PHASE_SETUP = 0,
  RESTORE_PHASE_MEMORY = 1,
  RESTORE_PHASE_ENTER = 2,
  RESTORE_PHASE_TOUCH = 3,
  RESTORE_PHASE_INSTANCE = 4,
  RESTORE_PHASE_THREADS = 5,
  RESTORE_PHASE_THREAD = 6,
  RESTORE_PHASE_MAIN = 7,
  RESTORE_PHASE_RELEASE = 8,
  RESTORE_PHASE_SEAL = 9,
};

// Template or clone to daemon. Times are CLOCK_MONOTONIC nanoseconds.
struct restore_report {
  uint32_t kind;
  uint32_t id; // of the order; 0 from the template itself
  int64_t value;
  uint32_t phase, number; // FAILED: enum restore_phase_name; system call or operation
  uint64_t index;         // FAILED: index within the phase
  uint64_t arguments[6];  // FAILED: as passed
  uint64_t process;       // FAILED: which one, inside the sandbox
  // `armed`: restored wholly; `released`: told to go (at once where nobody said otherwise); `done`: about to run user code.
  uint64_t ordered, cloned, entered, touched, instance, threads, armed, released, done;
};
