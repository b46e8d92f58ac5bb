// The jailer's loop: requests of the daemon, words of the sandboxes' pid 1s, ends of processes.
//
// Started as `thaw-jailer ROOT-DIRECTORY INSTANCE` with the daemon's socket as descriptor 3. When that socket closes, everything ends. (No
// PR_SET_PDEATHSIG here: it would fire when the daemon's *thread* that started us ends, and would leave no time to clean up.)
#include "jailer.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

struct settings settings;
static struct sandbox *sandboxes;
static int loop;
static int control = JAILER_CONTROL_DESCRIPTOR;
static char buffer[JAILER_MAXIMUM_MESSAGE];

int fail(struct failure *failure, const char *format, ...) {
  failure->error = errno ? errno : EIO;
  va_list list;
  va_start(list, format);
  vsnprintf(failure->text, sizeof failure->text, format, list);
  va_end(list);
  return -1;
}

static void answer(uint32_t request, const struct failure *failure, struct jailer_answer answer, const int *descriptors, int count) {
  struct {
    struct jailer_answer fixed;
    char text[256];
  } message = {.fixed = answer};
  message.fixed.header = (struct jailer_header){JAILER_ANSWER, request};
  size_t length = sizeof message.fixed;
  if (failure) {
    message.fixed.error = failure->error;
    length += (size_t)snprintf(message.text, sizeof message.text, "%s", failure->text) + 1;
  }
  send_message(control, &message, length, descriptors, count);
}

static struct sandbox *find(uint64_t id) {
  for (struct sandbox *sandbox = sandboxes; sandbox; sandbox = sandbox->next)
    if (sandbox->id == id) return sandbox;
  return NULL;
}

static void watch(int descriptor, void *subject) {
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = subject};
  epoll_ctl(loop, EPOLL_CTL_ADD, descriptor, &event);
}

// The process id of a pidfd as this process sees it: the "Pid:" line of its fdinfo.
static pid_t process_of(int pidfd) {
  char path[64], line[128];
  snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
  FILE *file = fopen(path, "re");
  long process = -1;
  while (file && fgets(line, sizeof line, file))
    if (sscanf(line, "Pid: %ld", &process) == 1) break;
  if (file) fclose(file);
  return (pid_t)process;
}

static void send_exited(pid_t process, int status, uint64_t sandbox) {
  struct jailer_exited message = {{JAILER_EXITED, 0}, process, status, sandbox};
  send_message(control, &message, sizeof message, NULL, 0);
}

static void forget_control(struct sandbox *sandbox) {
  if (sandbox->control < 0) return;
  // Closing alone would not do: a child that was cloned just now may have the socket still open, and then its events would go on to come, with a pointer
  // to a sandbox that is freed.
  epoll_ctl(loop, EPOLL_CTL_DEL, sandbox->control, NULL);
  close(sandbox->control);
  sandbox->control = -1;
}

// A word of a sandbox's pid 1; see struct init_message in sandbox.c.
static void init_says(struct sandbox *sandbox) {
  struct {
    int32_t kind, error, status;
    uint16_t port, unused;
    char text[256];
  } message;
  int descriptors[32], count = 0;
  long got = receive_message(sandbox->control, &message, sizeof message, descriptors, &count);
  if (got < 0 && errno == EAGAIN) return;
  if (got != sizeof message) {
    forget_control(sandbox);
    return;
  }
  switch (message.kind) {
  case 'r': {
    int all[16], number = 0;
    all[number++] = sandbox->pidfd;
    for (int i = 0; i < count && i < 4; i++) all[number++] = descriptors[i];
    for (int i = 0; i < sandbox->cgroup.count; i++) all[number++] = sandbox->cgroup.joins[i];
    uint16_t measures = 0;
    if (sandbox->cgroup.peak >= 0 && sandbox->cgroup.kills >= 0) {
      measures |= JAILER_HAS_MEMORY;
      all[number++] = sandbox->cgroup.peak;
      all[number++] = sandbox->cgroup.kills;
    }
    if (sandbox->cgroup.quota >= 0) {
      measures |= JAILER_HAS_CPU;
      all[number++] = sandbox->cgroup.quota;
    }
    sandbox->ready = 1;
    answer(sandbox->make_request, NULL,
           (struct jailer_answer){.process = sandbox->init, .sandbox = sandbox->id, .port = message.port,
                                  .cgroups = (uint16_t)sandbox->cgroup.count, .measures = measures},
           all, number);
    sandbox->make_request = 0;
    cgroup_close(&sandbox->cgroup);
    break;
  }
  case 'f': {
    struct failure failure = {.error = message.error};
    memcpy(failure.text, message.text, sizeof failure.text);
    answer(sandbox->make_request, &failure, (struct jailer_answer){0}, NULL, 0);
    sandbox->make_request = 0;
    break;
  }
  case 's': {
    struct failure failure = {.error = message.error, .text = "clone3 in the sandbox"};
    pid_t process = count == 1 ? process_of(descriptors[0]) : -1;
    answer(sandbox->start_request, message.error ? &failure : NULL, (struct jailer_answer){.process = process, .sandbox = sandbox->id}, NULL, 0);
    sandbox->start_request = 0;
    break;
  }
  case 'x': send_exited(0, message.status, sandbox->id); break;
  }
  for (int i = 0; i < count; i++) close(descriptors[i]);
}

static void refuse(uint32_t request, int error, const char *text) {
  struct failure failure = {.error = error};
  snprintf(failure.text, sizeof failure.text, "%s", text);
  answer(request, &failure, (struct jailer_answer){0}, NULL, 0);
}

static void handle_request(long length, const int *descriptors, int count) {
  const struct jailer_header *header = (void *)buffer;
  struct failure failure = {0};
  struct request_strings strings;
  if (length < (long)sizeof *header) return;
  switch (header->type) {
  case JAILER_MAKE_SANDBOX:
  case JAILER_START_TEMPLATE: {
    const struct jailer_sandbox *request = (void *)buffer;
    if (length < (long)sizeof *request || request->mount_count > JAILER_MAXIMUM_MOUNTS ||
        parse_strings(buffer + sizeof *request, (size_t)length - sizeof *request, &strings) < 0 || strings.count != 1 + 2 * request->mount_count) {
      refuse(header->request, EINVAL, "a malformed request");
      return;
    }
    if (header->type == JAILER_START_TEMPLATE) {
      pid_t process = count < 1 ? -1 : template_start(request, &strings, descriptors, count, &failure);
      if (count < 1) failure = (struct failure){EINVAL, "no executable"};
      answer(header->request, process < 0 ? &failure : NULL, (struct jailer_answer){.process = process}, NULL, 0);
      return;
    }
    struct sandbox *sandbox = sandbox_make(request, &strings, &failure);
    if (!sandbox) {
      answer(header->request, &failure, (struct jailer_answer){0}, NULL, 0);
      return;
    }
    sandbox->make_request = header->request;
    sandbox->next = sandboxes;
    sandboxes = sandbox;
    watch(sandbox->control, sandbox);
    return;
  }
  case JAILER_START: {
    const struct jailer_start *request = (void *)buffer;
    struct sandbox *sandbox = length < (long)sizeof *request ? NULL : find(request->sandbox);
    if (!sandbox || sandbox->control < 0 || !sandbox->ready || sandbox->started) {
      refuse(header->request, ESRCH, "no such sandbox, or it has been used");
      return;
    }
    if (parse_strings(buffer + sizeof *request, (size_t)length - sizeof *request, &strings) < 0 ||
        (uint64_t)strings.count != 1ull + request->argument_count + request->environment_count || request->argument_count < 1) {
      refuse(header->request, EINVAL, "a malformed request");
      return;
    }
    sandbox->started = 1;
    sandbox->start_request = header->request;
    if (send_message(sandbox->control, buffer, (size_t)length, NULL, 0) < 0) {
      sandbox->start_request = 0;
      refuse(header->request, errno, "the sandbox does not answer");
    }
    return;
  }
  case JAILER_TERMINATE: {
    const struct jailer_terminate *request = (void *)buffer;
    struct sandbox *sandbox = length < (long)sizeof *request ? NULL : find(request->sandbox);
    if (!sandbox) {
      answer(header->request, NULL, (struct jailer_answer){0}, NULL, 0);
      return;
    }
    sandbox->terminate_request = header->request;
    if (!sandbox->dead) kill(sandbox->init, SIGKILL);
    return;
  }
  case JAILER_KILL: {
    const struct jailer_kill *request = (void *)buffer;
    // Only a child of ours: its id cannot have been given to another process, since nobody but us reaps it.
    siginfo_t information;
    if (length >= (long)sizeof *request && request->process > 1 &&
        waitid(P_PID, (id_t)request->process, &information, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0)
      kill(request->process, SIGKILL);
    return;
  }
  default: refuse(header->request, EINVAL, "an unknown request");
  }
}

// A sandbox whose pid 1 has ended: the kernel has ended everything inside before.
static void init_ended(struct sandbox *sandbox) {
  sandbox->dead = 1;
  if (sandbox->control >= 0) {
    // What it said last may still be unread.
    struct pollfd item = {sandbox->control, POLLIN, 0};
    while (sandbox->control >= 0 && poll(&item, 1, 0) > 0 && (item.revents & POLLIN)) init_says(sandbox);
    forget_control(sandbox);
  }
  if (sandbox->make_request) refuse(sandbox->make_request, ECHILD, "the sandbox's pid 1 ended while it was made");
  if (sandbox->start_request) refuse(sandbox->start_request, ECHILD, "the sandbox's pid 1 ended");
  sandbox->make_request = sandbox->start_request = 0;
  cgroup_close(&sandbox->cgroup);
  if (sandbox->pidfd >= 0) close(sandbox->pidfd);
  sandbox->pidfd = -1;
}

static void reap(void) {
  int status;
  for (pid_t process; (process = waitpid(-1, &status, WNOHANG | __WALL)) > 0;) {
    struct sandbox *sandbox = sandboxes;
    while (sandbox && (sandbox->init != process || sandbox->dead)) sandbox = sandbox->next;
    if (sandbox) init_ended(sandbox);
    send_exited(process, status, sandbox ? sandbox->id : 0);
  }
}

// Removes the cgroups of dead sandboxes and answers who waits for that; answers whether some are left.
static int sweep(void) {
  int left = 0;
  for (struct sandbox **link = &sandboxes; *link;) {
    struct sandbox *sandbox = *link;
    if (!sandbox->dead) {
      link = &sandbox->next;
      continue;
    }
    if (cgroup_remove(&sandbox->cgroup) < 0) {
      left = 1;
      link = &sandbox->next;
      continue;
    }
    // Remembered until the daemon has asked for its end; one that never got ready the daemon does not know.
    if (!sandbox->terminate_request && sandbox->ready) {
      link = &sandbox->next;
      continue;
    }
    if (sandbox->terminate_request) answer(sandbox->terminate_request, NULL, (struct jailer_answer){.sandbox = sandbox->id}, NULL, 0);
    *link = sandbox->next;
    free(sandbox);
  }
  return left;
}

__attribute__((noreturn)) static void finish(void) {
  // The daemon is gone. Children that are no pid 1 of a sandbox are templates and restored processes.
  for (struct sandbox *sandbox = sandboxes; sandbox; sandbox = sandbox->next)
    if (!sandbox->dead) kill(sandbox->init, SIGKILL);
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
  FILE *list = fopen(path, "re");
  long child;
  while (list && fscanf(list, "%ld", &child) == 1) kill((pid_t)child, SIGKILL);
  if (list) fclose(list);
  while (waitpid(-1, NULL, __WALL) > 0) {
  }
  cgroups_end();
  exit(0);
}

int main(int count, char **arguments) {
  if (count != 3 || fcntl(control, F_GETFD) < 0) {
    fprintf(stderr, "thaw-jailer is started by `thaw serve`; it is of no use alone\n");
    return 64;
  }
  // What else the daemon had open without close-on-exec is nothing to us, and even less to what we start.
  close_range(JAILER_CONTROL_DESCRIPTOR + 1, ~0u, 0);
  settings.root_directory = arguments[1];
  snprintf(settings.instance, sizeof settings.instance, "%s", arguments[2]);
  prctl(PR_SET_NAME, "thaw-jailer");
  prctl(PR_SET_CHILD_SUBREAPER, 1); // a template's spare ends when it has made a clone, which is ours to wait for
  setsid(); // an interrupt typed at the daemon's terminal is the daemon's to handle
  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  sigprocmask(SIG_SETMASK, &signals, NULL);
  signal(SIGPIPE, SIG_IGN);
  int children = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  fcntl(control, F_SETFD, FD_CLOEXEC);
  loop = epoll_create1(EPOLL_CLOEXEC);
  static int control_mark, children_mark;
  watch(control, &control_mark);
  watch(children, &children_mark);
  struct failure failure = {0};
  static struct {
    struct jailer_answer fixed;
    char text[2048];
  } hello = {.fixed.header.type = JAILER_HELLO};
  cgroups_begin(hello.text, sizeof hello.text);
  if (confine_prepare(&failure) < 0) {
    hello.fixed.error = failure.error;
    snprintf(hello.text, sizeof hello.text, "%s", failure.text);
  }
  send_message(control, &hello, sizeof hello.fixed + strlen(hello.text) + 1, NULL, 0);
  for (;;) {
    struct epoll_event events[64];
    int number = epoll_wait(loop, events, 64, sweep() ? 5 : -1);
    for (int i = 0; i < number; i++) {
      void *subject = events[i].data.ptr;
      if (subject == &control_mark) {
        for (int budget = 0; budget < 16; budget++) {
          int descriptors[32], came = 0;
          long length = receive_message(control, buffer, sizeof buffer, descriptors, &came);
          if (length == 0 || (length < 0 && errno != EAGAIN && errno != EMSGSIZE)) finish();
          if (length < 0) break;
          handle_request(length, descriptors, came);
          for (int k = 0; k < came; k++) close(descriptors[k]);
        }
      } else if (subject == &children_mark) {
        struct signalfd_siginfo information;
        while (read(children, &information, sizeof information) > 0) {
        }
      } else {
        struct sandbox *sandbox = subject;
        if (sandbox->control >= 0) init_says(sandbox);
      }
    }
    // Last, so that no event of this round speaks of a sandbox that is freed.
    reap();
  }
}
