// Sandboxes: pid 1 of new namespaces that waits for the order to start a program; and template processes.
#include "jailer.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

static pid_t clone_process(uint64_t flags, int *pidfd) {
  struct clone_args arguments = {.flags = flags | CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)pidfd, .exit_signal = SIGCHLD};
  return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

static int bring_loopback_up(struct failure *failure) {
  int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
  int result = ioctl(control, SIOCSIFFLAGS, &request);
  if (result < 0) fail(failure, "bring the loopback up");
  close(control);
  return result;
}

// The Runtime API's socket, and a connection to it for a process that is restored.
static int make_sockets(uint16_t port, int *listener, int *connection, uint16_t *local, struct failure *failure) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int one = 1;
  *listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  setsockopt(*listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(*listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(*listener, 128) < 0) return fail(failure, "listen on port %u", port);
  *connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(*connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(*connection, (struct sockaddr *)&address, sizeof address) < 0) return fail(failure, "connect to port %u", port);
  socklen_t length = sizeof address;
  getsockname(*connection, (struct sockaddr *)&address, &length);
  *local = ntohs(address.sin_port);
  return 0;
}

// Makes `descriptors` the numbers `first`, `first` + 1, ...
static void place_descriptors(const int *descriptors, int first, int count) {
  // Out of each other's way first, then into place.
  int parked[32];
  for (int i = 0; i < count; i++) parked[i] = fcntl(descriptors[i], F_DUPFD_CLOEXEC, 64);
  for (int i = 0; i < count; i++) dup2(parked[i], first + i);
}

// What pid 1 and the jailer say to each other.
struct init_message {
  int32_t kind; // 'r' ready, 's' started, 'x' exited, 'f' failed
  int32_t error, status;
  uint16_t port, unused;
  char text[256];
};

static void reset_signals(void) {
  // The call itself: glibc's sigaction keeps 32 and 33 to itself, and its posix_spawn has made us ignore them.
  struct {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
  } standard = {.handler = SIG_DFL};
  for (int number = 1; number < 65; number++) syscall(SYS_rt_sigaction, number, &standard, NULL, sizeof standard.mask);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

static void run_program(const struct jailer_start *start, struct request_strings *strings, const struct jailer_sandbox *sandbox, int output,
                        const struct cgroup *cgroup) __attribute__((noreturn));
static void run_program(const struct jailer_start *start, struct request_strings *strings, const struct jailer_sandbox *sandbox, int output,
                        const struct cgroup *cgroup) {
  struct failure failure = {0};
  setsid();
  for (int i = 0; i < cgroup->count; i++)
    if (write(cgroup->joins[i], "0", 1) < 0) fail(&failure, "join cgroup %s", cgroup->paths[i]);
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  int descriptors[3] = {null, output, output};
  place_descriptors(descriptors, 0, 3);
  syscall(SYS_close_range, 3, ~0u, 0);
  struct rlimit files = {1024, 1024}, core = {0, 0};
  setrlimit(RLIMIT_NOFILE, &files);
  setrlimit(RLIMIT_CORE, &core);
  prctl(PR_SET_PDEATHSIG, 0);
  umask(022);
  reset_signals();
  const char **arguments = calloc(start->argument_count + 1, sizeof *arguments);
  const char **environment = calloc(start->environment_count + 1, sizeof *environment);
  if (!arguments || !environment) _exit(126);
  memcpy(arguments, strings->strings + 1, start->argument_count * sizeof *arguments);
  memcpy(environment, strings->strings + 1 + start->argument_count, start->environment_count * sizeof *environment);
  if (!failure.error && chdir(strings->strings[0]) < 0) fail(&failure, "chdir %s", strings->strings[0]);
  if (!failure.error && confine(sandbox->user, &failure) == 0) {
    execve(arguments[0], (char *const *)arguments, (char *const *)environment);
    fail(&failure, "execve %s", arguments[0]);
  }
  dprintf(2, "thaw: %s: %s\n", failure.text, strerror(failure.error));
  _exit(127);
}

// pid 1 of a sandbox: starts the program once, reaps, and says when the program has ended.
__attribute__((noreturn)) static void init_main(int control, uint64_t id, const struct jailer_sandbox *sandbox, const struct request_strings *strings,
                                                const struct cgroup *cgroup) {
  struct failure failure = {0};
  struct init_message message = {0};
  int listener = -1, connection = -1, output[2] = {-1, -1};
  struct mount_request mounts[JAILER_MAXIMUM_MOUNTS];
  for (int i = 0; i < sandbox->mount_count; i++) mounts[i] = (struct mount_request){strings->strings[1 + 2 * i], strings->strings[2 + 2 * i]};
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NAME, "thaw-init");
  char name[64];
  // As Lambda has them; no two sandboxes that live at the same time have the same.
  int length = snprintf(name, sizeof name, "169-254-%u-%u", (unsigned)(id >> 8 & 0xff), (unsigned)(id & 0xff));
  if (sethostname(name, (size_t)length) < 0) fail(&failure, "sethostname");
  if (!failure.error) build_root(sandbox, strings->strings[0], mounts, &failure);
  if (!failure.error) bring_loopback_up(&failure);
  if (!failure.error) make_sockets(sandbox->port, &listener, &connection, &message.port, &failure);
  if (!failure.error && pipe2(output, O_CLOEXEC) < 0) fail(&failure, "pipe2");
  if (failure.error) {
    message.kind = 'f';
    message.error = failure.error;
    snprintf(message.text, sizeof message.text, "%s", failure.text);
    send_message(control, &message, sizeof message, NULL, 0);
    _exit(1);
  }
  fcntl(output[0], F_SETFL, O_NONBLOCK);
  sigset_t children;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  sigprocmask(SIG_SETMASK, &children, NULL);
  int signals = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
  confine_init();
  message.kind = 'r';
  int ends[4] = {listener, connection, output[0], output[1]};
  if (send_message(control, &message, sizeof message, ends, 4) < 0) _exit(1);
  close(listener);
  close(connection);
  close(output[0]);
  static char buffer[JAILER_MAXIMUM_MESSAGE];
  pid_t program = -1;
  struct pollfd items[2] = {{control, POLLIN, 0}, {signals, POLLIN, 0}};
  for (;;) {
    if (poll(items, 2, -1) < 0 && errno != EINTR) _exit(1);
    if (items[1].revents) {
      struct signalfd_siginfo information;
      while (read(signals, &information, sizeof information) > 0) {
      }
      int status;
      for (pid_t ended; (ended = waitpid(-1, &status, WNOHANG | __WALL)) > 0;) {
        if (ended != program) continue;
        message = (struct init_message){.kind = 'x', .status = status};
        send_message(control, &message, sizeof message, NULL, 0);
      }
    }
    if (items[0].revents) {
      int count = 0, descriptors[32];
      long got = receive_message(control, buffer, sizeof buffer, descriptors, &count);
      if (got == 0 || (got < 0 && errno != EAGAIN)) _exit(0);
      struct request_strings parsed;
      const struct jailer_start *start = (void *)buffer;
      if (got < (long)sizeof *start || program >= 0 || parse_strings(buffer + sizeof *start, (size_t)got - sizeof *start, &parsed) < 0) continue;
      int pidfd = -1;
      program = clone_process(0, &pidfd);
      if (program == 0) run_program(start, &parsed, sandbox, output[1], cgroup);
      message = (struct init_message){.kind = 's', .error = program < 0 ? errno : 0};
      send_message(control, &message, sizeof message, &pidfd, program < 0 ? 0 : 1);
      if (pidfd >= 0) close(pidfd);
      close(output[1]);
      output[1] = -1;
    }
  }
}

struct sandbox *sandbox_make(const struct jailer_sandbox *request, const struct request_strings *strings, struct failure *failure) {
  static uint64_t next_id = 1;
  struct sandbox *sandbox = calloc(1, sizeof *sandbox);
  if (!sandbox) {
    fail(failure, "allocate");
    return NULL;
  }
  sandbox->id = next_id++;
  sandbox->control = sandbox->pidfd = -1;
  char name[32];
  snprintf(name, sizeof name, "%llu", (unsigned long long)sandbox->id);
  int ends[2] = {-1, -1};
  if (cgroup_make(name, request, &sandbox->cgroup, failure) < 0) goto failed;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
    fail(failure, "socketpair");
    goto failed;
  }
  sandbox->init = clone_process(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, &sandbox->pidfd);
  if (sandbox->init == 0) {
    // Nothing of the jailer's but the socket and the cgroups' files, as 3, 4, ...
    int keep[1 + JAILER_MAXIMUM_CGROUPS], count = 0;
    keep[count++] = ends[1];
    for (int i = 0; i < sandbox->cgroup.count; i++) keep[count++] = sandbox->cgroup.joins[i];
    place_descriptors(keep, 3, count);
    syscall(SYS_close_range, 3 + count, ~0u, 0);
    for (int i = 0; i < sandbox->cgroup.count; i++) sandbox->cgroup.joins[i] = 4 + i;
    init_main(3, sandbox->id, request, strings, &sandbox->cgroup);
  }
  if (sandbox->init < 0) {
    fail(failure, "clone3");
    goto failed;
  }
  close(ends[1]);
  sandbox->control = ends[0];
  return sandbox;
failed:
  if (ends[0] >= 0) close(ends[0]);
  if (ends[1] >= 0) close(ends[1]);
  cgroup_close(&sandbox->cgroup);
  cgroup_remove(&sandbox->cgroup);
  free(sandbox);
  return NULL;
}

pid_t template_start(const struct jailer_sandbox *request, const struct request_strings *strings, const int *descriptors, int count,
                     struct failure *failure) {
  static struct cgroup cgroup;
  if (cgroup.count == 0 && cgroup_make("templates", NULL, &cgroup, failure) < 0) return -1;
  int ends[2], pidfd = -1;
  if (pipe2(ends, O_CLOEXEC) < 0) return fail(failure, "pipe2");
  pid_t process = clone_process(0, &pidfd);
  if (process == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct mount_request mounts[JAILER_MAXIMUM_MOUNTS];
    for (int i = 0; i < request->mount_count; i++) mounts[i] = (struct mount_request){strings->strings[1 + 2 * i], strings->strings[2 + 2 * i]};
    for (int i = 0; i < cgroup.count; i++)
      if (write(cgroup.joins[i], "0", 1) < 0) fail(failure, "join cgroup %s", cgroup.paths[i]);
    if (!failure->error && unshare(CLONE_NEWNS) < 0) fail(failure, "unshare");
    if (!failure->error) build_root(request, strings->strings[0], mounts, failure);
    if (!failure->error) {
      int executable = fcntl(descriptors[0], F_DUPFD_CLOEXEC, 100), report = fcntl(ends[1], F_DUPFD_CLOEXEC, 100);
      place_descriptors(descriptors + 1, 0, count - 1);
      close_range((unsigned)count - 1, ~0u, CLOSE_RANGE_CLOEXEC);
      setsid();
      reset_signals();
      // A clone has descriptors above its program's own while it is made; the program's limit is set when it is whole.
      struct rlimit files;
      if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
      }
      char *arguments[] = {"thaw-template", NULL}, *environment[] = {NULL};
      syscall(SYS_execveat, executable, "", arguments, environment, AT_EMPTY_PATH);
      fail(failure, "execve of the restorer");
      ends[1] = report;
    }
    if (write(ends[1], failure, sizeof *failure) < 0) _exit(125);
    _exit(126);
  }
  close(ends[1]);
  if (process < 0) {
    fail(failure, "clone3");
    close(ends[0]);
    return -1;
  }
  close(pidfd);
  // The pipe is closed by the exec: it takes a few milliseconds until then.
  ssize_t got;
  do got = read(ends[0], failure, sizeof *failure);
  while (got < 0 && errno == EINTR);
  close(ends[0]);
  if (got > 0) return -1;
  failure->error = 0;
  return process;
}
