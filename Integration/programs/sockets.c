// Sockets that listen, are bound, connected or nothing yet, with their options; datagram and packet pairs with messages inside; directions shut down.
#include "harness.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/un.h>

static int option(int socket, int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  CHECK(getsockopt(socket, level, name, &value, &length) == 0);
  return value;
}
static void set(int socket, int level, int name, int value) { CHECK(setsockopt(socket, level, name, &value, sizeof value) == 0); }
static uint16_t port_of(int socket) {
  struct sockaddr_in6 address;
  socklen_t length = sizeof address;
  CHECK(getsockname(socket, (struct sockaddr *)&address, &length) == 0);
  return ntohs(address.sin6_port);  // at the same place for both families
}
static struct sockaddr_in loopback(uint16_t port) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}
static struct sockaddr_un at(const char *path, socklen_t *length) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t size = path[0] ? strlen(path) + 1 : strlen(path + 1) + 1;
  memcpy(address.sun_path, path, size);
  *length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
  return address;
}
// Connects to a listening socket, and sees that both ends talk.
static void is_served(int listener, int family, const void *address, socklen_t length) {
  int client = socket(family, SOCK_STREAM, 0);
  CHECK(connect(client, address, length) == 0);
  int server = accept(listener, NULL, NULL);
  CHECK(server >= 0 && write(client, "hello", 5) == 5);
  char buffer[8];
  CHECK(read(server, buffer, 8) == 5);
  if (family == AF_UNIX) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    CHECK(getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid == getpid() && peer.uid == getuid() && peer.gid == getgid());
  }
  close(client);
  close(server);
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  struct sockaddr_in address = loopback(0);
  struct sockaddr_in6 address6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT, .sin6_port = htons(8181)};
  socklen_t length;

  int web = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  set(web, SOL_SOCKET, SO_REUSEADDR, 1);
  address = loopback(8080);
  CHECK(bind(web, (struct sockaddr *)&address, sizeof address) == 0 && listen(web, 77) == 0);
  int any = socket(AF_INET, SOCK_STREAM, 0);
  address = loopback(0);
  CHECK(bind(any, (struct sockaddr *)&address, sizeof address) == 0 && listen(any, 5) == 0);
  uint16_t any_port = port_of(any);
  int web6 = socket(AF_INET6, SOCK_STREAM, 0);
  set(web6, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  set(web6, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0);
  CHECK(bind(web6, (struct sockaddr *)&address6, sizeof address6) == 0 && listen(web6, 9) == 0);
  int idle = socket(AF_INET, SOCK_STREAM, 0);
  set(idle, IPPROTO_TCP, TCP_NODELAY, 1);
  set(idle, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(idle, IPPROTO_TCP, TCP_KEEPIDLE, 123);
  set(idle, SOL_SOCKET, SO_SNDBUF, 100000);
  struct timeval timeout = {3, 500000};
  CHECK(setsockopt(idle, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0);
  struct linger linger = {1, 7};
  CHECK(setsockopt(idle, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);

  int udp = socket(AF_INET, SOCK_DGRAM, 0), connected = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), unbound = socket(AF_INET6, SOCK_DGRAM, 0);
  address = loopback(5353);
  CHECK(bind(udp, (struct sockaddr *)&address, sizeof address) == 0 && connect(connected, (struct sockaddr *)&address, sizeof address) == 0);
  uint16_t connected_port = port_of(connected);
  set(udp, SOL_SOCKET, SO_BROADCAST, 1);

  struct sockaddr_un path = at("/tmp/listening", &length);
  int local = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK(bind(local, (struct sockaddr *)&path, length) == 0 && chmod("/tmp/listening", 0640) == 0 && listen(local, 33) == 0);
  int abstract = socket(AF_UNIX, SOCK_STREAM, 0);
  path = at("\0an abstract name", &length);
  CHECK(bind(abstract, (struct sockaddr *)&path, length) == 0 && listen(abstract, 3) == 0);
  int unlinked = socket(AF_UNIX, SOCK_SEQPACKET, 0);
  path = at("/tmp/unlinked", &length);
  CHECK(bind(unlinked, (struct sockaddr *)&path, length) == 0 && unlink("/tmp/unlinked") == 0);
  int log = socket(AF_UNIX, SOCK_DGRAM, 0), logger = socket(AF_UNIX, SOCK_DGRAM, 0), nothing = socket(AF_UNIX, SOCK_STREAM, 0);
  path = at("/tmp/log", &length);
  CHECK(bind(log, (struct sockaddr *)&path, length) == 0 && connect(logger, (struct sockaddr *)&path, length) == 0);

  int datagrams[2], packets[2], half[2], left[2];
  CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams) == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets) == 0);
  CHECK(write(datagrams[0], "one", 3) == 3 && write(datagrams[0], "two and", 7) == 7 && write(datagrams[0], "three", 5) == 5);
  CHECK(write(datagrams[1], "back", 4) == 4);
  CHECK(write(packets[1], "a packet", 8) == 8 && write(packets[1], "another", 7) == 7);
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, half) == 0 && write(half[0], "last", 4) == 4 && shutdown(half[0], SHUT_WR) == 0);
  CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, left) == 0 && write(left[1], "left", 4) == 4);
  close(left[1]);
  int over[2];
  CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, over) == 0 && write(over[1], "the end", 7) == 7);
  close(over[1]);
  struct sockaddr_in6 mapped = {.sin6_family = AF_INET6, .sin6_port = htons(9001), .sin6_addr.s6_addr = {[10] = 0xff, 0xff, 127, 0, 0, 1}};
  int lost = socket(AF_INET6, SOCK_STREAM, 0);
  set(lost, IPPROTO_IPV6, IPV6_TCLASS, 16);
  set(lost, IPPROTO_TCP, TCP_NODELAY, 1);
  CHECK(connect(lost, (struct sockaddr *)&mapped, sizeof mapped) == 0);
  int big[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, big) == 0);
  set(big[0], SOL_SOCKET, SO_SNDBUF, 190000);
  CHECK(fcntl(big[0], F_SETFL, O_NONBLOCK) == 0);
  static char block[1000];
  int sent = 0;
  for (ssize_t count = 0; count >= 0; sent += count > 0 ? (int)count : 0) {
    memset(block, sent / 1000 & 0xff, sizeof block);
    count = write(big[0], block, sizeof block);
  }
  CHECK(sent > 50000);

  int route = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), events = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_ROUTE);
  struct sockaddr_nl netlink = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
  CHECK(bind(events, (struct sockaddr *)&netlink, sizeof netlink) == 0);
  socklen_t size = sizeof netlink;
  CHECK(getsockname(events, (struct sockaddr *)&netlink, &size) == 0);
  uint32_t netlink_port = netlink.nl_pid;
  int poller = epoll_create1(0);
  struct epoll_event item = {.events = EPOLLIN, .data.u32 = 8080};
  CHECK(epoll_ctl(poller, EPOLL_CTL_ADD, web, &item) == 0);

  wait_for_snapshot();

  char buffer[64];
  CHECK(accept(web, NULL, NULL) == -1 && errno == EAGAIN && fcntl(web, F_GETFD) == FD_CLOEXEC);
  CHECK(option(web, SOL_SOCKET, SO_REUSEADDR) == 1 && option(web, SOL_SOCKET, SO_ACCEPTCONN) == 1 && option(any, SOL_SOCKET, SO_REUSEADDR) == 0);
  struct tcp_info information;
  size = sizeof information;
  CHECK(getsockopt(web, IPPROTO_TCP, TCP_INFO, &information, &size) == 0 && information.tcpi_sacked == 77);
  address = loopback(8080);
  int client = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
  struct epoll_event found;
  CHECK(epoll_wait(poller, &found, 1, 1000) == 1 && found.data.u32 == 8080 && accept(web, NULL, NULL) >= 0);
  is_served(web, AF_INET, &address, sizeof address);
  CHECK(port_of(any) == any_port);
  address = loopback(any_port);
  is_served(any, AF_INET, &address, sizeof address);
  is_served(web6, AF_INET6, &address6, sizeof address6);
  CHECK(option(web6, IPPROTO_IPV6, IPV6_V6ONLY) == 1);
  CHECK(option(idle, IPPROTO_TCP, TCP_NODELAY) == 1 && option(idle, SOL_SOCKET, SO_KEEPALIVE) == 1 && option(idle, IPPROTO_TCP, TCP_KEEPIDLE) == 123);
  CHECK(option(idle, SOL_SOCKET, SO_SNDBUF) == 200000);
  size = sizeof timeout;
  CHECK(getsockopt(idle, SOL_SOCKET, SO_RCVTIMEO, &timeout, &size) == 0 && timeout.tv_sec == 3 && timeout.tv_usec >= 500000 && timeout.tv_usec < 510000);
  size = sizeof linger;
  CHECK(getsockopt(idle, SOL_SOCKET, SO_LINGER, &linger, &size) == 0 && linger.l_onoff == 1 && linger.l_linger == 7);
  address = loopback(8080);
  CHECK(recv(idle, buffer, 1, 0) == -1 && errno == ENOTCONN && connect(idle, (struct sockaddr *)&address, sizeof address) == 0);

  CHECK(option(udp, SOL_SOCKET, SO_BROADCAST) == 1 && port_of(connected) == connected_port && write(connected, "datagram", 8) == 8);
  size = sizeof address;
  CHECK(recvfrom(udp, buffer, 64, 0, (struct sockaddr *)&address, &size) == 8 && ntohs(address.sin_port) == connected_port);
  CHECK(sendto(udp, "reply", 5, 0, (struct sockaddr *)&address, size) == 5 && read(connected, buffer, 64) == 5);
  address6.sin6_port = htons(9999);
  CHECK(port_of(unbound) == 0 && bind(unbound, (struct sockaddr *)&address6, sizeof address6) == 0);

  struct stat status;
  CHECK(stat("/tmp/listening", &status) == 0 && (status.st_mode & 07777) == 0640 && status.st_uid == getuid());
  path = at("/tmp/listening", &length);
  is_served(local, AF_UNIX, &path, length);
  path = at("\0an abstract name", &length);
  is_served(abstract, AF_UNIX, &path, length);
  CHECK(access("/tmp/unlinked", F_OK) == -1);
  struct sockaddr_un name;
  size = sizeof name;
  CHECK(getsockname(unlinked, (struct sockaddr *)&name, &size) == 0 && strcmp(name.sun_path, "/tmp/unlinked") == 0);
  CHECK(write(logger, "logged", 6) == 6 && read(log, buffer, 64) == 6);
  CHECK(write(nothing, "x", 1) == -1 && errno == ENOTCONN);

  CHECK(read(datagrams[1], buffer, 64) == 3 && read(datagrams[1], buffer, 64) == 7 && memcmp(buffer, "two and", 7) == 0 && read(datagrams[1], buffer, 64) == 5);
  CHECK(recv(datagrams[1], buffer, 64, MSG_DONTWAIT) == -1 && errno == EAGAIN && read(datagrams[0], buffer, 64) == 4);
  CHECK(read(packets[0], buffer, 64) == 8 && read(packets[0], buffer, 64) == 7 && memcmp(buffer, "another", 7) == 0);
  struct ucred peer;
  size = sizeof peer;
  CHECK(getsockopt(packets[0], SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid == getpid() && peer.uid == getuid() && peer.gid == getgid());
  CHECK(write(half[0], "x", 1) == -1 && errno == EPIPE && read(half[1], buffer, 64) == 4 && read(half[1], buffer, 64) == 0);
  CHECK(write(half[1], "open", 4) == 4 && read(half[0], buffer, 64) == 4);
  CHECK(read(left[0], buffer, 64) == 4 && memcmp(buffer, "left", 4) == 0);
  CHECK(read(over[0], buffer, 64) == 7 && read(over[0], buffer, 64) == 0);
  CHECK(read(lost, buffer, 64) == 0 && option(lost, IPPROTO_TCP, TCP_NODELAY) == 1);
  int received = 0;
  for (ssize_t count; received < sent && (count = read(big[1], block, sizeof block)) > 0;) {
    for (int i = 0; i < count; i++, received++) CHECK(block[i] == (char)(received / 1000 & 0xff));
  }
  CHECK(received == sent && recv(big[1], buffer, 1, MSG_DONTWAIT) == -1);

  struct {
    struct nlmsghdr header;
    struct rtgenmsg body;
  } request = {{.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtgenmsg)), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}, {AF_UNSPEC}};
  static char answer[65536];
  CHECK(send(route, &request, sizeof request, 0) == sizeof request && recv(route, answer, sizeof answer, 0) > 100);
  CHECK(((struct nlmsghdr *)answer)->nlmsg_type == RTM_NEWLINK);
  size = sizeof netlink;
  CHECK(getsockname(events, (struct sockaddr *)&netlink, &size) == 0 && netlink.nl_groups == RTMGRP_LINK && netlink.nl_pid == netlink_port);
  succeeded();
}
