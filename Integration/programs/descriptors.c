// Pipes and socket pairs with bytes inside, eventfd, nested epoll, regular files, duplicates, devices, a closed connection, cwd, umask, limits.
#include "harness.h"

int main(void) {
  int numbers[2];
  int full[2], half[2], pair[2], orphan[2];
  CHECK(pipe(full) == 0);
  CHECK(write(full[1], "in the pipe", 11) == 11);
  CHECK(pipe2(half, O_NONBLOCK | O_CLOEXEC) == 0);
  CHECK(fcntl(half[0], F_SETPIPE_SZ, 131072) == 131072);
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  CHECK(write(pair[0], "to one", 6) == 6 && write(pair[1], "to zero", 7) == 7);
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, orphan) == 0);
  CHECK(write(orphan[1], "last words", 10) == 10);
  close(orphan[1]);
  int event = eventfd(7, EFD_NONBLOCK | EFD_CLOEXEC);
  int semaphore = eventfd(3, EFD_SEMAPHORE);
  int inner = epoll_create1(EPOLL_CLOEXEC), outer = epoll_create1(0);
  struct epoll_event item = {.events = EPOLLIN | EPOLLET, .data.u64 = 0x123456789abcdef0};
  CHECK(epoll_ctl(inner, EPOLL_CTL_ADD, event, &item) == 0);
  item = (struct epoll_event){.events = EPOLLIN, .data.u32 = 77};
  CHECK(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &item) == 0);
  item = (struct epoll_event){.events = EPOLLIN, .data.u32 = 78};
  CHECK(epoll_ctl(inner, EPOLL_CTL_ADD, half[0], &item) == 0);
  int file = open("/tmp/file", O_CREAT | O_RDWR, 0640);
  CHECK(write(file, "0123456789", 10) == 10 && lseek(file, 4, SEEK_SET) == 4);
  int same = dup(file);
  CHECK(dup3(file, 333, O_CLOEXEC) == 333);
  int appending = open("/tmp/log", O_CREAT | O_WRONLY | O_APPEND, 0600);
  CHECK(write(appending, "first\n", 6) == 6);
  int directory = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int null = open("/dev/null", O_RDWR), random = open("/dev/urandom", O_RDONLY);
  CHECK(mkdir("/tmp/sub", 0700) == 0 && symlink("file", "/tmp/link") == 0 && chdir("/tmp/sub") == 0);
  umask(037);
  // A connection to the harness's server that is not the one waited on.
  int connection = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(9001), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  CHECK(connect(connection, (struct sockaddr *)&address, sizeof address) == 0);
  // More than there are slots in a restore program.
  static int many[100][2], pairs[100][2], closed[20];
  char closed_buffer[1];
  for (int i = 0; i < 100; i++) CHECK(pipe(many[i]) == 0 && write(many[i][1], &i, sizeof i) == sizeof i && socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[i]) == 0);
  for (int i = 0; i < 20; i++) {
    closed[i] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(closed[i], (struct sockaddr *)&address, sizeof address) == 0);
  }
  struct rlimit limit = {600, 700};
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0 || errno == EPERM);
  getrlimit(RLIMIT_NOFILE, &limit);
  wait_for_snapshot();
  for (int i = 0, number; i < 100; i++) {
    CHECK(read(many[i][0], &number, sizeof number) == sizeof number && number == i);
    CHECK(write(pairs[i][0], &i, sizeof i) == sizeof i && read(pairs[i][1], &number, sizeof number) == sizeof number && number == i);
    close(many[i][0]);
    close(many[i][1]);
    close(pairs[i][0]);
    close(pairs[i][1]);
  }
  for (int i = 0; i < 20; i++) CHECK(read(closed[i], closed_buffer, 1) == 0 && close(closed[i]) == 0);
  char buffer[64];
  CHECK(read(full[0], buffer, 64) == 11 && memcmp(buffer, "in the pipe", 11) == 0);
  CHECK(read(half[0], buffer, 64) == -1 && errno == EAGAIN);
  CHECK(fcntl(half[0], F_GETPIPE_SZ) == 131072);
  CHECK(fcntl(half[0], F_GETFD) == FD_CLOEXEC && fcntl(full[0], F_GETFD) == 0);
  CHECK(read(pair[1], buffer, 64) == 6 && memcmp(buffer, "to one", 6) == 0);
  CHECK(read(pair[0], buffer, 64) == 7 && memcmp(buffer, "to zero", 7) == 0);
  CHECK(read(orphan[0], buffer, 64) == 10 && memcmp(buffer, "last words", 10) == 0);
  CHECK(read(orphan[0], buffer, 64) == 0);
  struct epoll_event events[4];
  CHECK(epoll_wait(outer, events, 4, 1000) == 1 && events[0].data.u32 == 77);
  CHECK(epoll_wait(inner, events, 4, 1000) == 1 && events[0].data.u64 == 0x123456789abcdef0);
  uint64_t value;
  CHECK(read(event, &value, 8) == 8 && value == 7);
  CHECK(read(event, &value, 8) == -1 && errno == EAGAIN);
  for (int i = 0; i < 3; i++) CHECK(read(semaphore, &value, 8) == 8 && value == 1);
  CHECK(write(half[1], "y", 1) == 1);
  CHECK(epoll_wait(inner, events, 4, 1000) == 1 && events[0].data.u32 == 78);
  CHECK(read(file, buffer, 2) == 2 && memcmp(buffer, "45", 2) == 0);
  CHECK(read(same, buffer, 2) == 2 && memcmp(buffer, "67", 2) == 0);  // one description
  CHECK(read(333, buffer, 2) == 2 && memcmp(buffer, "89", 2) == 0);
  CHECK(fcntl(333, F_GETFD) == FD_CLOEXEC);
  CHECK(write(appending, "second\n", 7) == 7);
  int again = open("/tmp/log", O_RDONLY);
  CHECK(read(again, buffer, 64) == 13 && memcmp(buffer, "first\nsecond\n", 13) == 0);
  struct stat status;
  CHECK(fstat(file, &status) == 0 && (status.st_mode & 07777) == 0640 && status.st_uid == getuid());
  CHECK(readlinkat(directory, "link", buffer, 64) == 4);
  CHECK(write(null, "x", 1) == 1 && read(null, buffer, 1) == 0 && read(random, buffer, 8) == 8);
  CHECK(getcwd(buffer, 64) && strcmp(buffer, "/tmp/sub") == 0);
  CHECK(umask(0) == 037);
  CHECK(read(connection, buffer, 64) == 0);
  struct rlimit now;
  CHECK(getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == limit.rlim_cur && now.rlim_max == limit.rlim_max);
  // Nothing besides what was there: the restorer has cleaned up.
  for (int number = 334; number < 2000; number++) CHECK(number == harness_socket || fcntl(number, F_GETFD) == -1);
  CHECK(pipe(numbers) == 0 && numbers[0] < 40);
  succeeded();
}
