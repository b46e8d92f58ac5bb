// What a program is stripped of before it runs: user, capabilities, privileges, system calls.
#include "jailer.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

// In the order in which they are put in force. A template has the first one itself, so that a clone needs to be given only the second, which is small:
// it forbids what a clone is made with.
static struct sock_fprog filters[2];

// Calls that no function needs and that reach for the machine. Everything else is allowed: a function without capabilities in its own namespaces
// can hurt nobody with it, and a missing call hurts real programs.
static const char *const denied[] = {
    "acct", "add_key", "adjtimex", "bpf", "clock_adjtime", "clock_settime", "create_module", "delete_module", "finit_module", "fsconfig", "fsmount",
    "fsopen", "fspick", "get_kernel_syms", "get_mempolicy", "init_module", "io_uring_enter", "io_uring_register", "io_uring_setup", "ioperm", "iopl",
    "kcmp", "kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "mbind", "migrate_pages", "mount", "mount_setattr", "move_mount",
    "move_pages", "name_to_handle_at", "nfsservctl", "open_by_handle_at", "open_tree", "perf_event_open", "personality", "pidfd_getfd", "pivot_root",
    "process_vm_readv", "process_vm_writev", "ptrace", "query_module", "quotactl", "quotactl_fd", "reboot", "request_key",
    "set_mempolicy", "setdomainname", "sethostname", "settimeofday", "stime", "swapoff", "swapon", "sysfs", "syslog", "umount", "umount2",
    "uselib", "ustat", "vhangup", "vm86", "vm86old",
};

// Those of them that the restorer needs (Sources/restorer), and clone3.
static const char *const denied_last[] = {"process_madvise", "setns", "unshare", "userfaultfd"};

// Sockets of the local machine and of the sandbox's own network only. Other families know no network namespace (AF_VSOCK reaches the hypervisor from
// any of them), or open code of the kernel that no function needs; the rules are against them all, whatever their number.
static int deny_other_sockets(scmp_filter_ctx context, int number, struct failure *failure) {
  static const uint64_t whole = 0xffffffff; // the kernel reads an int
  for (uint64_t family = AF_UNSPEC; family <= AF_NETLINK && !failure->error; family++) {
    if (family == AF_UNIX || family == AF_INET || family == AF_INET6 || family == AF_NETLINK) continue;
    errno = -seccomp_rule_add(context, SCMP_ACT_ERRNO(EAFNOSUPPORT), number, 1, SCMP_A0(SCMP_CMP_MASKED_EQ, whole, family));
    if (errno) fail(failure, "seccomp rule for sockets of family %llu", (unsigned long long)family);
  }
  errno = -seccomp_rule_add(context, SCMP_ACT_ERRNO(EAFNOSUPPORT), number, 1, SCMP_A0(SCMP_CMP_GT, AF_NETLINK));
  if (errno) fail(failure, "seccomp rule for sockets");
  return failure->error ? -1 : 0;
}

static scmp_filter_ctx new_filter(const char *const *names, size_t count, struct failure *failure) {
  scmp_filter_ctx context = seccomp_init(SCMP_ACT_ALLOW);
  if (!context) {
    fail(failure, "seccomp_init");
    return NULL;
  }
  // A binary tree instead of a list: the kernel runs the filter once for every system call there is when it is put in force.
  errno = -seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
  if (errno) fail(failure, "seccomp_attr_set");
  for (size_t i = 0; i < count && !failure->error; i++) {
    int number = seccomp_syscall_resolve_name(names[i]);
    if (number == __NR_SCMP_ERROR || number < 0) continue; // not a call of this architecture
    errno = -seccomp_rule_add(context, SCMP_ACT_ERRNO(EPERM), number, 0);
    if (errno) fail(failure, "seccomp rule for %s", names[i]);
  }
  return context;
}

// Gives the context back.
static int export_filter(scmp_filter_ctx context, struct sock_fprog *filter, struct failure *failure) {
  int file = memfd_create("seccomp", MFD_CLOEXEC);
  if (file < 0) return fail(failure, "memfd_create");
  errno = -seccomp_export_bpf(context, file);
  if (errno) return fail(failure, "seccomp_export_bpf");
  off_t size = lseek(file, 0, SEEK_END);
  filter->len = (unsigned short)((size_t)size / sizeof(struct sock_filter));
  filter->filter = malloc((size_t)size);
  if (!filter->filter || pread(file, filter->filter, (size_t)size, 0) != size) return fail(failure, "read the seccomp filter");
  close(file);
  seccomp_release(context);
  return 0;
}

int confine_prepare(struct failure *failure) {
  scmp_filter_ctx context = new_filter(denied, sizeof denied / sizeof *denied, failure);
  if (failure->error) return -1;
  // New namespaces through clone; clone3 hides its flags in memory, so that it is said not to exist and glibc takes clone.
  static const unsigned long namespaces[] = {CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWCGROUP};
  for (size_t i = 0; i < sizeof namespaces / sizeof *namespaces; i++)
    seccomp_rule_add(context, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, namespaces[i], namespaces[i]));
  // Typing into somebody's terminal (TIOCSTI, TIOCLINUX).
  seccomp_rule_add(context, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, 0x5412));
  seccomp_rule_add(context, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, 0x541c));
  if (deny_other_sockets(context, SCMP_SYS(socket), failure) < 0 || deny_other_sockets(context, SCMP_SYS(socketpair), failure) < 0) return -1;
  if (export_filter(context, &filters[0], failure) < 0) return -1;
  context = new_filter(denied_last, sizeof denied_last / sizeof *denied_last, failure);
  if (failure->error) return -1;
  errno = -seccomp_rule_add(context, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
  if (errno) return fail(failure, "seccomp rule for clone3");
  return export_filter(context, &filters[1], failure);
}

static int set_capabilities(uint64_t set) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {
      {(uint32_t)set, (uint32_t)set, 0},
      {(uint32_t)(set >> 32), (uint32_t)(set >> 32), 0},
  };
  return (int)syscall(SYS_capset, &header, data);
}

void confine_init(void) {
  set_capabilities(1ull << CAP_SETUID | 1ull << CAP_SETGID | 1ull << CAP_SETPCAP | 1ull << CAP_KILL);
}

int confine(uint32_t user, struct failure *failure) {
  for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) return fail(failure, "drop capability %lu", capability);
  if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, user, user, user) < 0 || syscall(SYS_setresuid, user, user, user) < 0)
    return fail(failure, "become user %u", user);
  set_capabilities(0);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return fail(failure, "no_new_privs");
  for (int i = 0; i < 2; i++)
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filters[i], 0, 0) < 0) return fail(failure, "seccomp");
  return 0;
}
