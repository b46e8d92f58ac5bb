// The restorer: a freestanding program that becomes the process described by a restore program (restore_program.h).
//
// It is started by the jailer with descriptor 0 = control socket (SEQPACKET), 1 = the program, 2 = the image. It replaces its own memory by the
// snapshot's, and is then the *template*: it waits for orders on the control socket, and for each clones itself into a blank sandbox. The clone
// runs the program's remaining phases and leaves through rt_sigreturn into the restored main thread.
//
// While no order waits the template has a *spare*: a copy of itself, which belongs to no sandbox, made ahead. The next clone takes over its memory.
//
// No libc, no stack protector, no vector registers: whatever runs here runs in a half-made process.
#include <asm-generic/fcntl.h>
#include <linux/mman.h>
#include <stdint.h>

#include "restore_program.h"

typedef uint64_t u64;
typedef uint32_t u32;

// asm/unistd_64.h
enum {
  SYS_read = 0,
  SYS_write = 1,
  SYS_open = 2,
  SYS_poll = 7,
  SYS_lseek = 8,
  SYS_mmap = 9,
  SYS_mprotect = 10,
  SYS_rt_sigprocmask = 14,
  SYS_munmap = 11,
  SYS_ioctl = 16,
  SYS_pread64 = 17,
  SYS_pwrite64 = 18,
  SYS_mremap = 25,
  SYS_madvise = 28,
  SYS_sendto = 44,
  SYS_recvmsg = 47,
  SYS_close = 3,
  SYS_sched_yield = 24,
  SYS_nanosleep = 35,
  SYS_getpid = 39,
  SYS_getppid = 110,
  SYS_prctl = 157,
  SYS_fcntl = 72,
  SYS_futex = 202,
  SYS_clock_gettime = 228,
  SYS_exit_group = 231,
  SYS_waitid = 247,
  SYS_unshare = 272,
  SYS_dup3 = 292,
  SYS_userfaultfd = 323,
  SYS_sendmsg = 46,
  SYS_setns = 308,
  SYS_pidfd_open = 434,
  SYS_clone3 = 435,
  SYS_process_madvise = 440,
  SYS_close_range = 436,
};

enum { CLOCK_MONOTONIC = 1, CLOCK_BOOTTIME = 7, CLONE_NEWTIME = 0x80 };
enum { CLONE_NEWNS = 0x20000, CLONE_NEWUTS = 0x4000000, CLONE_NEWIPC = 0x8000000, CLONE_NEWPID = 0x20000000, CLONE_NEWNET = 0x40000000 };
enum { CLONE_VM = 0x100, CLONE_FILES = 0x400, CLONE_PARENT = 0x8000 };
enum { PR_SET_PDEATHSIG = 1, SIGKILL = 9 };
enum { FUTEX_WAIT = 0, FUTEX_WAKE = 1, FUTEX_WAIT_PRIVATE = 128, FUTEX_WAKE_PRIVATE = 129, F_DUPFD_CLOEXEC = 1030 };
enum { EMSGSIZE = 90, EINVAL = 22, ETIMEDOUT = 110, ECHILD = 10, EUSERS = 87 };
enum { P_PID = 1, WNOHANG = 1, WEXITED = 4, WNOWAIT = 0x1000000, WALL = 0x40000000, CLD_EXITED = 1 };
enum { AT_NULL = 0, AT_SYSINFO_EHDR = 33 };
enum { PIDFD_SELF = -10001 }; // linux/pidfd.h: the thread group
enum { CONTROL = 0, PROGRAM = 1, IMAGE = 2 };

static inline long call6(long n, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) {
  long result;
  register u64 r10 __asm__("r10") = d;
  register u64 r8 __asm__("r8") = e;
  register u64 r9 __asm__("r9") = f;
  __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return result;
}
#define call(n, a, b, c) call6((n), (u64)(a), (u64)(b), (u64)(c), 0, 0, 0)

// The first process's; each process that is forked of it has its own.
static struct restore_program *program = (struct restore_program *)RESTORE_PROGRAM_BASE;
static struct restore_shared *const shared = (struct restore_shared *)RESTORE_SHARED;
static struct restore_spare *const spare = (struct restore_spare *)RESTORE_SPARE;
static char stack[16384] __attribute__((aligned(64), used));
static struct restore_report report;
// What clones are known to use, and where in it each use begins.
static struct restore_range working_set[RESTORE_WORKING_SET_RANGES];
static const struct restore_range *uses[RESTORE_USES + 1] = {working_set, working_set, working_set, working_set, working_set};
static u64 control = CONTROL;

static u64 clock_offset; // of the time namespace that this process is in

static u64 clock(int number) {
  u64 time[2];
  call(SYS_clock_gettime, number, time, 0);
  return time[0] * 1000000000u + time[1];
}

// As the daemon's clock, also in a clone.
static u64 now(void) { return clock(CLOCK_MONOTONIC) - clock_offset; }

struct message_header {
  void *name;
  u32 name_length, pad0;
  struct restore_range *vectors;
  u64 vector_count;
  void *ancillary;
  u64 ancillary_length;
  int flags, pad1;
};

static void send_report(enum restore_report_kind kind, int64_t value) {
  report.kind = kind;
  report.value = value;
  call6(SYS_sendto, control, (u64)&report, sizeof report, 0x4000 /* MSG_NOSIGNAL */, 0, 0);
}

// A report that brings a descriptor, which is closed here.
static void send_report_with(enum restore_report_kind kind, long descriptor) {
  report.kind = kind;
  report.value = 0;
  struct restore_range vector = {(u64)&report, sizeof report};
  u64 ancillary[3] = {20, 1 | 1ull << 32 /* SOL_SOCKET, SCM_RIGHTS */, (u64)descriptor};
  struct message_header header = {.vectors = &vector, .vector_count = 1, .ancillary = ancillary, .ancillary_length = sizeof ancillary};
  call(SYS_sendmsg, control, &header, 0x4000 /* MSG_NOSIGNAL */);
  call(SYS_close, descriptor, 0, 0);
}

__attribute__((noreturn)) static void fail(u32 phase, u64 index, u32 number, long result, const u64 *arguments) {
  report.process = (u32)call(SYS_getpid, 0, 0, 0);
  report.phase = phase;
  report.index = index;
  report.number = number;
  for (int k = 0; k < 6; k++) report.arguments[k] = arguments ? arguments[k] : 0;
  send_report(RESTORE_REPORT_FAILED, result);
  for (;;) call(SYS_exit_group, 99, 0, 0);
}

static int is_error(long result) { return (u64)result > (u64)-4096L; }

// User code is about to run in one of the processes: none may tell the daemon anything any more.
static void close_control(void) {
  call(SYS_close, control, 0, 0);
  control = ~0u;
}

static void add(u32 *counter) {
  __atomic_add_fetch(counter, 1, __ATOMIC_ACQ_REL);
  call6(SYS_futex, (u64)counter, FUTEX_WAKE, 0x7fffffff, 0, 0, 0);
}

// Fails if a process that this one has forked has ended as it should not (killed for want of memory, say) while it is waited for that `counter` says
// `wanted`: afterwards everything may run, and end.
static void check_children(const u32 *counter, u32 wanted) {
  const struct restore_op *ops = (const struct restore_op *)program->instance.address;
  for (u64 i = 0; i < program->instance.count; i++) {
    if (ops[i].number != RESTORE_OP_FORK || ops[i].arguments[2] == RESTORE_MAY_BE_KILLED) continue;
    const struct restore_program *child = (const struct restore_program *)ops[i].arguments[0];
    u64 arguments[6] = {child->main_process_id};
    u32 information[32] = {0}; // siginfo_t: its signal, 0 while there is nothing to tell; an error; how it ended
    long result = call6(SYS_waitid, P_PID, arguments[0], (u64)information, WNOHANG | WEXITED | WNOWAIT | WALL, 0, 0);
    int stays = ops[i].arguments[2] == RESTORE_STAYS;
    // -ECHILD: it has been waited for, has not been made yet, or is gone at once, as this one ignores SIGCHLD.
    int is_gone = result == 0 && information[0] ? stays || information[2] != CLD_EXITED : result == -ECHILD && stays && child->made;
    if (is_gone && __atomic_load_n(counter, __ATOMIC_ACQUIRE) < wanted) fail(RESTORE_PHASE_INSTANCE, i, RESTORE_OP_FORK, -ECHILD, arguments);
  }
}

// What others do; who has forked them looks after them meanwhile.
static long await(const u32 *counter, u32 wanted) {
  u32 seen;
  u64 tenth[2] = {0, 100000000};
  for (int tries = 0; (seen = __atomic_load_n(counter, __ATOMIC_ACQUIRE)) < wanted;)
    if (call6(SYS_futex, (u64)counter, FUTEX_WAIT, seen, (u64)tenth, 0, 0) == -ETIMEDOUT) {
      check_children(counter, wanted);
      if (++tries == 300) return -ETIMEDOUT;
    }
  return 0;
}

static void move_vdso(u64 from);
static long fork_process(struct restore_program *child, u64 exit_signal);

// Runs one phase: the whole interpreter of a restore program.
static void run(u32 name, struct restore_phase phase) {
  const struct restore_op *op = (const struct restore_op *)phase.address;
  u64 *slots = program->slots;
  for (u64 i = 0; i < phase.count; i++, op++) {
    const u64 *a = op->arguments;
    long result;
    if (__builtin_expect(op->number >= RESTORE_OP_MOVE, 0)) {
      result = 0;
      switch (op->number) {
      case RESTORE_OP_MOVE:
        if (slots[a[0]] != a[1]) {
          result = call(SYS_dup3, slots[a[0]], a[1], a[2]);
          if (!is_error(result)) call(SYS_close, slots[a[0]], 0, 0);
        }
        break;
      case RESTORE_OP_POKE32: *(volatile u32 *)a[0] = (u32)slots[a[1]]; break;
      case RESTORE_OP_LOAD_PAIR:
        slots[a[1]] = ((volatile u32 *)a[0])[0];
        slots[a[1] + 1] = ((volatile u32 *)a[0])[1];
        break;
      case RESTORE_OP_WAIT_THREADS: {
        u64 seen;
        while ((seen = __atomic_load_n(&program->ready, __ATOMIC_ACQUIRE)) < program->thread_count)
          call6(SYS_futex, (u64)&program->ready, FUTEX_WAIT_PRIVATE, seen, 0, 0, 0);
        break;
      }
      case RESTORE_OP_FORK: result = fork_process((struct restore_program *)a[0], a[1]); break;
      case RESTORE_OP_MOVE_VDSO: move_vdso(a[0]); break;
      case RESTORE_OP_ADD: add((u32 *)a[0]); break;
      case RESTORE_OP_WAIT: result = await((const u32 *)a[0], (u32)a[1]); break;
      default: result = -EINVAL;
      }
      if (is_error(result)) fail(name, i, op->number, result, a);
      continue;
    }
    if (__builtin_expect(op->slot_mask, 0)) {
      u64 v[6];
      for (int k = 0; k < 6; k++) v[k] = (op->slot_mask >> k) & 1 ? slots[a[k]] : a[k];
      result = call6(op->number, v[0], v[1], v[2], v[3], v[4], v[5]);
    } else {
      result = call6(op->number, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
    int wrong = 0;
    switch (op->check) {
    case RESTORE_MUST_SUCCEED: wrong = is_error(result); break;
    case RESTORE_MUST_EQUAL_FIRST: wrong = (u64)result != a[0]; break;
    case RESTORE_MUST_EQUAL_LAST: wrong = (u64)result != a[5]; break;
    }
    if (wrong) fail(name, i, op->number, result, a);
    if (op->result_slot) slots[op->result_slot] = result;
  }
}

__attribute__((noreturn)) static void return_to(u64 frame) {
  __asm__ volatile("mov %0, %%rsp\n mov $15, %%eax\n syscall\n ud2" ::"r"(frame) : "memory");
  __builtin_unreachable();
}

// One thread lets the next go: all at once they would take the processors from the one that has the answer to read.
static void let_go(u64 address) {
  if (!address) return;
  struct restore_thread *thread = (struct restore_thread *)address;
  __atomic_store_n(&thread->go, 1, __ATOMIC_RELEASE);
  call6(SYS_futex, (u64)&thread->go, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

__attribute__((noreturn, used)) void thread_main(struct restore_thread *thread) {
  run(RESTORE_PHASE_THREAD, thread->phase);
  if (thread->gs_base) __asm__ volatile("wrgsbase %0" ::"r"(thread->gs_base));
  if (__atomic_add_fetch(&program->ready, 1, __ATOMIC_ACQ_REL) == program->thread_count)
    call6(SYS_futex, (u64)&program->ready, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
  while (!__atomic_load_n(&thread->go, __ATOMIC_ACQUIRE)) call6(SYS_futex, (u64)&thread->go, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0);
  let_go(thread->next);
  return_to(thread->frame);
}

// The new thread has no usable stack frame of ours: it goes straight to thread_main.
__attribute__((noinline)) static long clone_thread(struct restore_thread *thread) {
  long result;
  register u64 rdi __asm__("rdi") = (u64)&thread->clone;
  register u64 rsi __asm__("rsi") = sizeof thread->clone;
  register u64 rbx __asm__("rbx") = (u64)thread;
  __asm__ volatile("syscall\n test %%rax, %%rax\n jnz 1f\n mov %%rbx, %%rdi\n xor %%ebp, %%ebp\n call thread_main\n 1:"
                   : "=a"(result)
                   : "a"(SYS_clone3), "r"(rdi), "r"(rsi), "r"(rbx)
                   : "rcx", "r11", "memory");
  return result;
}

// madvise(2) of many ranges: in one call, where the kernel takes that (PIDFD_SELF since 6.17). What it refuses is no mistake: the working set is advice.
static void advise(enum restore_use use, int advice) {
  const struct restore_range *range = uses[use], *end = uses[use + 1];
  while (range < end) {
    u64 count = (u64)(end - range);
    long result = call6(SYS_process_madvise, (u64)PIDFD_SELF, (u64)range, count < 1024 ? count : 1024, advice, 0, 0);
    if (is_error(result)) break;
    for (u64 done = (u64)result; done && done >= range->length; range++) done -= range->length;
    if ((u64)(end - range) + 1024 > count && range < end) break; // it stopped early
  }
  for (; range < end; range++) call(SYS_madvise, range->start, range->length, advice);
}

static int is_touched; // whether the written pages are there already

// Has the pages that the process will use there before it needs them, many at a time: cheaper than one fault each.
static void touch_working_set(int arming) {
  advise(RESTORE_USE_WRITTEN, MADV_POPULATE_WRITE);
  if (arming) advise(RESTORE_USE_READ, MADV_POPULATE_READ);
}

// A userfaultfd that sees nothing: while it is registered for a mapping, the kernel maps only the pages that are asked for, not their neighbours too.
// It does not take files that are mapped shared and cannot be written. Answers the descriptor.
static long map_singly(enum restore_use use) {
  struct {
    u64 api, features, ioctls;
  } api = {0xaa, 1 << 15 /* UFFD_FEATURE_WP_ASYNC */, 0};
  long file = call(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */, 0, 0);
  if (is_error(file)) return file;
  if (is_error(call(SYS_ioctl, file, 0xc018aa3f /* UFFDIO_API */, &api))) {
    call(SYS_close, file, 0, 0);
    return -EINVAL;
  }
  for (const struct restore_range *range = uses[use]; range < uses[use + 1]; range++) {
    struct {
      u64 start, length, mode, ioctls;
    } registration = {range->start, range->length, 2 /* UFFDIO_REGISTER_MODE_WP */, 0};
    call(SYS_ioctl, file, 0xc020aa00 /* UFFDIO_REGISTER */, &registration);
  }
  return file;
}

// Maps the pages of files that clones read, and no others, so that clones have them from their first instruction.
static void map_read(void) {
  long file = map_singly(RESTORE_USE_READ);
  if (is_error(file)) return;
  advise(RESTORE_USE_READ, MADV_POPULATE_READ);
  call(SYS_close, file, 0, 0);
  long memory = call(SYS_open, "/proc/self/mem", O_RDWR | O_CLOEXEC, 0);
  if (is_error(memory)) return;
  for (const struct restore_range *range = uses[RESTORE_USE_OWN]; range < uses[RESTORE_USE_OWN + 1]; range++) {
    u64 word;
    if (call6(SYS_pread64, memory, (u64)&word, sizeof word, range->start, 0, 0) == sizeof word)
      call6(SYS_pwrite64, memory, (u64)&word, sizeof word, range->start, 0, 0);
  }
  call(SYS_close, memory, 0, 0);
}

// Whether the daemon has sent something, or does so soon.
static int is_order_waiting(int milliseconds) {
  struct {
    int descriptor;
    short events, revents;
  } item = {(int)control, 1, 0};
  return call(SYS_poll, &item, 1, milliseconds) != 0;
}

// Waits until the daemon says go: from here on everything is done but user code.
static void wait_for_release(u64 descriptor) {
  u64 count;
  long result;
  send_report(RESTORE_REPORT_ARMED, 0);
  do result = call(SYS_read, descriptor, &count, sizeof count);
  while (result == -4 /* EINTR */);
  if (result != sizeof count) fail(RESTORE_PHASE_RELEASE, 0, SYS_read, result < 0 ? result : -EINVAL, 0);
}

// The process that `program` describes, but for its memory where it is the first one, and for what makes time pass.
static void make_process(void) {
  struct restore_program *p = program;
  run(RESTORE_PHASE_INSTANCE, p->instance);
  report.instance = now();
  struct restore_thread *threads = (struct restore_thread *)p->threads;
  for (u64 i = 0; i < p->thread_count; i++) {
    long result = clone_thread(&threads[i]);
    if (result < 0) fail(RESTORE_PHASE_THREADS, i, SYS_clone3, result, (u64 *)&threads[i].clone.set_tid);
  }
  report.threads = now();
  run(RESTORE_PHASE_MAIN, p->main);
}

__attribute__((noreturn)) static void leave(void) {
  struct restore_program *p = program;
  if (p->processes) call(SYS_munmap, RESTORE_SHARED, 4096, 0);
  call(SYS_close_range, p->descriptor_base, ~0u, 0);
  run(RESTORE_PHASE_SEAL, p->seal);
  __asm__ volatile("wrfsbase %0" ::"r"(p->main_fs_base));
  if (p->main_gs_base) __asm__ volatile("wrgsbase %0" ::"r"(p->main_gs_base));
  for (int i = 0; i < 2; i++) let_go(p->first[i]);
  return_to(p->main_frame);
}

// The clone, inside the blank sandbox's namespaces: everything that is not memory.
__attribute__((noreturn)) static void become(u32 flags, u64 release_descriptor) {
  // A fork takes back what was copied ahead: with other processes it comes last.
  int touch = (flags & RESTORE_ORDER_TOUCH) && !is_touched, last = program->processes != 0;
  if (flags & RESTORE_ORDER_WATCH) {
    long file = map_singly(RESTORE_USE_WATCHED);
    if (!is_error(file)) send_report_with(RESTORE_REPORT_WATCHED, file);
  }
  if (touch && !last) touch_working_set(flags & RESTORE_ORDER_ARM);
  report.touched = now();
  make_process();
  if (touch && last) touch_working_set(flags & RESTORE_ORDER_ARM);
  report.armed = now();
  if (flags & RESTORE_ORDER_ARM) wait_for_release(release_descriptor);
  report.released = flags & RESTORE_ORDER_ARM ? now() : report.armed;
  run(RESTORE_PHASE_RELEASE, program->release);
  if (program->processes) {
    add(&shared->go);
    if (await(&shared->released, (u32)program->processes - 1) < 0) fail(RESTORE_PHASE_RELEASE, 0, RESTORE_OP_WAIT, -ETIMEDOUT, 0);
  }
  report.done = now();
  send_report(RESTORE_REPORT_DONE, 0);
  if (program->processes) {
    close_control();
    add(&shared->leave);
  }
  leave();
}

static void wait_for(const u32 *flag) {
  while (!__atomic_load_n(flag, __ATOMIC_ACQUIRE)) call6(SYS_futex, (u64)flag, FUTEX_WAIT, 0, 0, 0, 0);
}

// A process that the first one has forked: it makes itself, and waits until the first one goes, for as long as that takes.
__attribute__((noreturn, used)) static void forked_main(struct restore_program *child) {
  program = child;
  make_process();
  add(&shared->ready);
  if (await(&shared->ready, (u32)program->processes - 1) < 0) fail(RESTORE_PHASE_INSTANCE, 0, RESTORE_OP_WAIT, -ETIMEDOUT, 0);
  wait_for(&shared->go);
  run(RESTORE_PHASE_RELEASE, program->release);
  close_control();
  add(&shared->released);
  wait_for(&shared->leave);
  leave();
}

// The new process begins at the top of the stack, as its parent did: there may be many generations.
static long fork_process(struct restore_program *child, u64 exit_signal) {
  struct restore_clone_arguments arguments = {.exit_signal = exit_signal, .set_tid = (u64)&child->main_process_id, .set_tid_size = 1};
  long result = call(SYS_clone3, &arguments, sizeof arguments, 0);
  if (result == 0) __asm__ volatile("mov %0, %%rdi\n lea stack+16384(%%rip), %%rsp\n and $-64, %%rsp\n xor %%ebp, %%ebp\n call forked_main\n" ::"r"(child) : "memory");
  child->made = result > 0;
  return result;
}

static long spare_process; // 0 if there is none
static void make_spare(void);
static void drop_spare(void);

// Waits for an order to clone; answers how many descriptors came with it. A new working set is taken in on the way. Ends the template when the
// daemon has closed the socket.
static u32 receive_order(struct restore_order *order, u32 *descriptors) {
  static char ancillary[16 + 4 * RESTORE_ORDER_DESCRIPTORS] __attribute__((aligned(8)));
  struct restore_range vectors[2] = {{(u64)order, sizeof *order}, {(u64)working_set, sizeof working_set}};
  struct message_header header;
  for (;;) {
    if (!spare_process && !is_order_waiting(0)) make_spare();
    header = (struct message_header){.vectors = vectors, .vector_count = 2, .ancillary = ancillary, .ancillary_length = sizeof ancillary};
    long result;
    do result = call(SYS_recvmsg, control, &header, 0x40000000 /* MSG_CMSG_CLOEXEC */);
    while (result == -4 /* EINTR */);
    if (result < (long)sizeof *order) call(SYS_exit_group, 0, 0, 0);
    if (!(order->flags & RESTORE_ORDER_WORKING_SET)) break;
    drop_spare();
    for (int use = 0; use < RESTORE_USES; use++) uses[use + 1] = uses[use] + order->ranges[use];
    if (uses[RESTORE_USES] != working_set + ((u64)result - sizeof *order) / sizeof *working_set) call(SYS_exit_group, 0, 0, 0);
    map_read();
  }
  u32 count = 0;
  if (header.ancillary_length >= 16) {
    count = (u32)((*(u64 *)ancillary - 16) / 4);
    for (u32 i = 0; i < count; i++) descriptors[i] = ((u32 *)(ancillary + 16))[i];
  }
  return count;
}

// The clone of a spare comes into the time namespace that the spare has made for it: not from birth, as the two share memory, but when the spare has ended.
static void join_clocks(long file, u64 offset) {
  u64 moment[2] = {0, 100000};
  long result;
  for (int tries = 0; (result = call(SYS_setns, file, CLONE_NEWTIME, 0)) == -EUSERS && tries < 100000; tries++) {
    if (tries < 1000) call(SYS_sched_yield, 0, 0, 0);
    else call(SYS_nanosleep, moment, 0, 0);
  }
  if (result < 0) fail(RESTORE_PHASE_ENTER, 40, SYS_setns, result, 0);
  clock_offset = offset;
}

// In the clone: enter the sandbox, put the supplied descriptors where the program expects them, close all else. `clocks`: a time namespace to join, or -1.
__attribute__((noreturn)) static void enter(const struct restore_order *order, const u32 *descriptors, long clocks, u64 offset) {
  u64 base = program->descriptor_base;
  long result = call(SYS_setns, descriptors[0], CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, 0);
  if (result < 0) fail(RESTORE_PHASE_ENTER, 0, SYS_setns, result, 0);
  for (u32 i = 0; i < order->cgroups; i++) {
    result = call(SYS_write, descriptors[1 + i], "0", 1);
    if (result < 0) fail(RESTORE_PHASE_ENTER, 1 + i, SYS_write, result, 0);
  }
  result = call(SYS_fcntl, control, F_DUPFD_CLOEXEC, base);
  if (result < 0) fail(RESTORE_PHASE_ENTER, 20, SYS_fcntl, result, 0);
  control = (u64)result;
  u64 released = 0;
  u32 release = order->flags & RESTORE_ORDER_ARM ? 1 : 0;
  for (u32 i = 0; i < order->supplied + release; i++) {
    result = call(SYS_fcntl, descriptors[1 + order->cgroups + i], F_DUPFD_CLOEXEC, base + 1);
    if (result < 0) fail(RESTORE_PHASE_ENTER, 21 + i, SYS_fcntl, result, 0);
    if (i < order->supplied) program->slots[RESTORE_SLOT_SUPPLIED + i] = (u64)result;
    else released = (u64)result;
  }
  if (clocks >= 0) join_clocks(clocks, offset);
  // Before anything is forked: no process of a function's may reach the template through it. The spare has ended.
  result = call(SYS_munmap, RESTORE_SPARE, 4096, 0);
  if (result < 0) fail(RESTORE_PHASE_ENTER, 41, SYS_munmap, result, 0);
  call(SYS_close_range, 0, base - 1, 0);
  report.entered = now();
  become(order->flags, released);
}

// "NAME SECONDS NANOSECONDS\n", as /proc/self/timens_offsets takes it; answers the end.
static char *put_offset(char *text, const char *name, int64_t offset) {
  const u64 second = 1000000000;
  int64_t seconds = offset / (int64_t)second, rest = offset % (int64_t)second;
  if (rest < 0) seconds--, rest += (int64_t)second;
  while (*name) *text++ = *name++;
  for (int part = 0; part < 2; part++) {
    int64_t number = part ? rest : seconds;
    *text++ = ' ';
    if (number < 0) *text++ = '-', number = -number;
    char digits[24];
    int count = 0;
    do digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count) *text++ = digits[--count];
  }
  *text++ = '\n';
  return text;
}

// Has the clocks of the time namespace of `file`, /proc/self/timens_offsets, go on from the snapshot. Answers the monotonic clock's offset, or 0, which it
// never is, where that fails.
static u64 set_offsets(long file) {
  char text[128];
  u64 offset = program->monotonic - clock(CLOCK_MONOTONIC);
  char *end = put_offset(text, "monotonic", (int64_t)offset);
  end = put_offset(end, "boottime", (int64_t)(program->boottime - clock(CLOCK_BOOTTIME)));
  call(SYS_lseek, file, 0, 0);
  return call(SYS_write, file, text, end - text) < 0 ? 0 : offset;
}

// The next clone's clocks go on from the snapshot: a time namespace of its own, which it is in from its first instruction. Answers the monotonic
// clock's offset; 0, the host's clocks, where that fails.
static u64 set_clocks(void) {
  if (call(SYS_unshare, CLONE_NEWTIME, 0, 0) < 0) return 0;
  long file = call(SYS_open, "/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC, 0);
  if (file < 0) return 0;
  u64 offset = set_offsets(file);
  call(SYS_close, file, 0, 0);
  return offset;
}

// A template's order, as its spare and the clone of that have it.
static struct {
  struct restore_order order;
  u32 descriptors[RESTORE_ORDER_DESCRIPTORS];
  long clocks; // the time namespace's descriptor
  u64 offset;
} taken;

// The clone of a spare, on a stack of its own: the spare has the same memory, until it has ended.
__attribute__((noreturn, used)) static void taken_main(void) {
  report.cloned = now();
  enter(&taken.order, taken.descriptors, taken.clocks, taken.offset);
}

static long clone_spare(void) {
  static char clone_stack[sizeof stack] __attribute__((aligned(64)));
  struct restore_clone_arguments arguments = {
      .flags = CLONE_VM, .stack = (u64)clone_stack, .stack_size = sizeof clone_stack, .set_tid = (u64)&program->main_process_id, .set_tid_size = 1};
  long result;
  __asm__ volatile("syscall\n test %%rax, %%rax\n jnz 1f\n xor %%ebp, %%ebp\n call taken_main\n 1:"
                   : "=a"(result)
                   : "a"(SYS_clone3), "D"(&arguments), "S"(sizeof arguments)
                   : "rcx", "r11", "memory");
  return result;
}

// The spare: has everything that needs no order, waits for one, clones itself, and ends, so that the clone is the only one that has the memory. (A process
// cannot come into a pid namespace itself.) The clone becomes the jailer's, which takes in orphans.
__attribute__((noreturn)) static void spare_main(long template) {
  call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0);
  if (call(SYS_getppid, 0, 0, 0) != template) call(SYS_exit_group, 0, 0, 0);
  u64 written = 0;
  for (const struct restore_range *range = uses[RESTORE_USE_WRITTEN]; range < uses[RESTORE_USE_WRITTEN + 1]; range++) written += range->length;
  // A fork takes back what was copied ahead: with other processes it comes last.
  if (written <= RESTORE_AHEAD_BYTES && !program->processes) {
    touch_working_set(0);
    is_touched = 1;
  }
  // Without a time namespace to join, the clone would not know when this process has ended: the template clones itself then.
  if (call(SYS_unshare, CLONE_NEWTIME, 0, 0) < 0) call(SYS_exit_group, 0, 0, 0);
  long offsets = call(SYS_open, "/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC, 0);
  taken.clocks = call(SYS_open, "/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC, 0);
  if (offsets < 0 || taken.clocks < 0) call(SYS_exit_group, 0, 0, 0);
  u32 begun = RESTORE_SPARE_BEGUN;
  __atomic_compare_exchange_n(&spare->state, &begun, RESTORE_SPARE_READY, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
  while (__atomic_load_n(&spare->state, __ATOMIC_ACQUIRE) == RESTORE_SPARE_READY)
    call6(SYS_futex, (u64)&spare->state, FUTEX_WAIT, RESTORE_SPARE_READY, 0, 0, 0);
  if (spare->state != RESTORE_SPARE_ORDERED || spare->count > RESTORE_ORDER_DESCRIPTORS) call(SYS_exit_group, 0, 0, 0);
  taken.order = spare->order;
  for (u32 i = 0; i < spare->count; i++) taken.descriptors[i] = spare->descriptors[i];
  report.id = taken.order.id;
  report.ordered = spare->ordered;
  taken.offset = set_offsets(offsets);
  if (!taken.offset || call(SYS_setns, taken.descriptors[0], CLONE_NEWPID, 0) < 0) call(SYS_exit_group, 0, 0, 0);
  __atomic_store_n(&spare->state, RESTORE_SPARE_CLONES, __ATOMIC_RELEASE);
  spare->result = clone_spare();
  __atomic_store_n(&spare->state, RESTORE_SPARE_CLONED, __ATOMIC_RELEASE);
  for (;;) call(SYS_exit_group, 0, 0, 0);
}

static void make_spare(void) {
  static int is_shared;
  static long self = -1;
  long own = call(SYS_getpid, 0, 0, 0);
  // Not in the namespaces of the clone before, nor with what the spare before had opened, whenever it ended.
  if (self < 0) self = call(SYS_pidfd_open, own, 0, 0);
  if (self < 0 || call(SYS_close_range, self + 1, ~0u, 0) < 0 || call(SYS_setns, self, CLONE_NEWPID | CLONE_NEWTIME, 0) < 0) return;
  if (!is_shared) is_shared = !is_error(call6(SYS_mmap, RESTORE_SPARE, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
  if (!is_shared) return;
  __atomic_store_n(&spare->state, RESTORE_SPARE_BEGUN, __ATOMIC_RELEASE);
  struct restore_clone_arguments arguments = {.flags = CLONE_FILES};
  long result = call(SYS_clone3, &arguments, sizeof arguments, 0);
  if (result == 0) spare_main(own);
  spare_process = result > 0 ? result : 0;
}

// Takes note of the spare's end, which is waited for, but with WNOHANG.
static void wait_for_spare(int how) {
  u32 information[32] = {0}; // siginfo_t: its signal, 0 while there is nothing to tell
  if (call6(SYS_waitid, P_PID, (u64)spare_process, (u64)information, WEXITED | WALL | how, 0, 0) == 0 && !information[0]) return;
  spare_process = 0;
}

static void tell_spare(enum restore_spare_state state) {
  __atomic_store_n(&spare->state, state, __ATOMIC_RELEASE);
  call6(SYS_futex, (u64)&spare->state, FUTEX_WAKE, 1, 0, 0, 0);
}

static void drop_spare(void) {
  if (!spare_process) return;
  tell_spare(RESTORE_SPARE_DROPPED);
  wait_for_spare(0);
}

// Has the spare carry out an order; answers the clone's process id, an error, or 0 if there is no clone: the template tries itself then.
static long order_from_spare(const struct restore_order *order, const u32 *descriptors, u32 count) {
  // An armed clone has the time to copy, and its memory is counted as its own then.
  if (!spare_process || order->flags & RESTORE_ORDER_ARM) return 0;
  if (__atomic_load_n(&spare->state, __ATOMIC_ACQUIRE) != RESTORE_SPARE_READY) {
    wait_for_spare(WNOHANG); // it may have been killed
    return 0;
  }
  spare->order = *order;
  spare->count = count;
  for (u32 i = 0; i < count; i++) spare->descriptors[i] = descriptors[i];
  spare->ordered = report.ordered;
  tell_spare(RESTORE_SPARE_ORDERED);
  // Both have the processor first, if there is but one. The clone tells the daemon itself that it is there.
  is_order_waiting(2);
  wait_for_spare(0);
  switch (spare->state) {
  case RESTORE_SPARE_CLONED: return spare->result < 0 ? 0 : spare->result;
  case RESTORE_SPARE_CLONES: return -ECHILD; // it was killed, and there may be a clone or none
  default: return 0;
  }
}

__attribute__((noreturn)) static void serve(void) {
  for (;;) {
    struct restore_order order;
    u32 descriptors[RESTORE_ORDER_DESCRIPTORS];
    u32 count = receive_order(&order, descriptors);
    report.id = order.id;
    report.ordered = now();
    long result = -EMSGSIZE;
    u32 expected = 1 + order.cgroups + order.supplied + (order.flags & RESTORE_ORDER_ARM ? 1 : 0);
    if (count == expected && order.supplied <= RESTORE_SLOT_FREE - RESTORE_SLOT_SUPPLIED) {
      result = order_from_spare(&order, descriptors, count);
      if (result == 0) result = call(SYS_setns, descriptors[0], CLONE_NEWPID, 0);
      if (result == 0) {
        u64 offset = set_clocks();
        struct restore_clone_arguments arguments = {.flags = CLONE_PARENT, .set_tid = (u64)&program->main_process_id, .set_tid_size = 1};
        result = call(SYS_clone3, &arguments, sizeof arguments, 0);
        if (result == 0) {
          clock_offset = offset;
          report.cloned = now();
          enter(&order, descriptors, -1, 0);
        }
      }
    }
    for (u32 i = 0; i < count; i++) call(SYS_close, descriptors[i], 0, 0);
    send_report(RESTORE_REPORT_CLONED, result);
  }
}

// [vvar], [vvar_vclock] and [vdso] lie side by side wherever the kernel put them; they must come to where the snapshot had them.
static void move_vdso(u64 from) {
  struct restore_program *p = program;
  u64 lengths[3] = {p->vvar_length, p->vvar_vclock_length, p->vdso_length};
  u64 total = lengths[0] + lengths[1] + lengths[2], to = p->vvar_start;
  if (to == from) return;
  u64 stops[2] = {RESTORE_VDSO_STOP, to};
  int overlap = to < from + total && from < to + total;
  if (overlap && total > RESTORE_VDSO_ROOM) fail(RESTORE_PHASE_SETUP, 9, SYS_mremap, -EINVAL, 0);
  for (int stop = overlap ? 0 : 1; stop < 2; stop++) {
    u64 offset = 0;
    for (int i = 0; i < 3; i++) {
      if (!lengths[i]) continue;
      long result = call6(SYS_mremap, from + offset, lengths[i], lengths[i], 3 /* MAYMOVE | FIXED */, stops[stop] + offset, 0);
      if (is_error(result)) {
        u64 arguments[6] = {from + offset, lengths[i], lengths[i], 3, stops[stop] + offset, 0};
        fail(RESTORE_PHASE_SETUP, 10 + i, SYS_mremap, result, arguments);
      }
      offset += lengths[i];
    }
    from = stops[stop];
  }
}

__attribute__((noreturn, used)) void restorer_main(const u64 *initial_stack) {
  extern char __restorer_start[], __restorer_end[];
  u64 everything = ~0ull;
  call6(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, (u64)&everything, 0, 8, 0, 0);
  // Past argc, argv and envp lies the auxiliary vector: it tells where the vDSO is.
  const u64 *word = initial_stack + 1 + initial_stack[0] + 1;
  while (*word) word++;
  u64 vdso = 0;
  for (word++; word[0] != AT_NULL; word += 2)
    if (word[0] == AT_SYSINFO_EHDR) vdso = word[1];
  // Our own text becomes an anonymous copy: the executable must be unmapped before PR_SET_MM_EXE_FILE is allowed to replace it.
  u64 start = (u64)__restorer_start, length = (u64)__restorer_end - start;
  long own = call6(SYS_mmap, 0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (is_error(own)) fail(RESTORE_PHASE_SETUP, 0, SYS_mmap, own, 0);
  for (u64 i = 0; i < length / 8; i++)
    if (((u64 *)start)[i]) ((volatile u64 *)own)[i] = ((u64 *)start)[i]; // what is zero needs no page yet
  call(SYS_mprotect, own, length, PROT_READ | PROT_WRITE | PROT_EXEC);
  long result = call6(SYS_mremap, own, length, length, 3, start, 0);
  if (is_error(result)) fail(RESTORE_PHASE_SETUP, 1, SYS_mremap, result, 0);
  // The program: its first page tells its size.
  result = call6(SYS_mmap, RESTORE_PROGRAM_BASE, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, PROGRAM, 0);
  if (is_error(result)) fail(RESTORE_PHASE_SETUP, 2, SYS_mmap, result, 0);
  u64 size = program->size;
  if (program->magic != RESTORE_PROGRAM_MAGIC || size > RESTORE_PROGRAM_END - RESTORE_PROGRAM_BASE) fail(RESTORE_PHASE_SETUP, 3, 0, -EINVAL, 0);
  result = call6(SYS_mmap, RESTORE_PROGRAM_BASE, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_POPULATE, PROGRAM, 0);
  if (is_error(result)) fail(RESTORE_PHASE_SETUP, 4, SYS_mmap, result, 0);
  // Everything else goes, the vDSO moves.
  u64 vvar = vdso - program->vvar_length - program->vvar_vclock_length;
  u64 total = program->vvar_length + program->vvar_vclock_length + program->vdso_length;
  call(SYS_munmap, RESTORER_END, vvar - RESTORER_END, 0);
  call(SYS_munmap, vvar + total, 0x7ffffffff000ull - (vvar + total), 0);
  move_vdso(vvar);
  program->slots[RESTORE_SLOT_IMAGE] = IMAGE;
  run(RESTORE_PHASE_MEMORY, program->memory);
  call(SYS_close_range, PROGRAM, ~0u, 0);
  send_report(RESTORE_REPORT_TEMPLATE, 0);
  serve();
}

__asm__(".globl _start\n_start:\n mov %rsp, %rdi\n lea stack+16384(%rip), %rsp\n and $-64, %rsp\n call restorer_main\n");
