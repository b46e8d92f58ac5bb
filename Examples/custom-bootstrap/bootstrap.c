// A runtime of one's own in C: speaks the Runtime API with nothing but sockets. `Examples/package.py` compiles it, statically, as `bootstrap`.
//
// Its function counts letters. What takes long, the table of primes, is made once, before the snapshot.
#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LIMIT 5000000
static char composite[LIMIT + 1];
static int prime_count;
static int invocations;

static char *buffer; // the answer to the last request: head and body
static size_t body_length;
static char host[64];
static int port, connection = -1;

static void fail(const char *text) {
  perror(text);
  exit(1);
}

static void dial(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  int one = 1;
  inet_pton(AF_INET, host, &address.sin_addr);
  connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(connection, (struct sockaddr *)&address, sizeof address) < 0) fail("connect to the Runtime API");
}

// The value of a header in the answer, as a copy.
static char *header(const char *name) {
  size_t length = strlen(name);
  for (char *line = strstr(buffer, "\r\n"); line && strncmp(line, "\r\n\r\n", 4); line = strstr(line + 2, "\r\n"))
    if (!strncasecmp(line + 2, name, length) && line[2 + length] == ':') {
      char *value = line + 3 + length;
      while (*value == ' ') value++;
      return strndup(value, strcspn(value, "\r"));
    }
  return NULL;
}

// One request on the open connection. Answers the body, which lives until the next request.
static char *ask(const char *method, const char *path, const char *content) {
  if (connection < 0) dial();
  char head[512];
  int size = snprintf(head, sizeof head, "%s /2018-06-01/runtime/%s HTTP/1.1\r\nHost: %s\r\nContent-Length: %zu\r\n\r\n", method, path, host,
                      content ? strlen(content) : 0);
  if (write(connection, head, (size_t)size) != size) fail("write");
  if (content && write(connection, content, strlen(content)) < 0) fail("write");
  size_t used = 0, capacity = 1 << 16;
  buffer = realloc(buffer, capacity);
  for (;;) {
    if (used + 1 >= capacity) buffer = realloc(buffer, capacity *= 2);
    if (!buffer) fail("realloc");
    ssize_t got = read(connection, buffer + used, capacity - used - 1);
    if (got <= 0) fail("read from the Runtime API");
    used += (size_t)got;
    buffer[used] = 0;
    char *end = strstr(buffer, "\r\n\r\n");
    if (!end) continue;
    char *length = header("content-length");
    body_length = length ? strtoul(length, NULL, 10) : 0;
    free(length);
    if (used >= (size_t)(end + 4 - buffer) + body_length) return end + 4;
  }
}

int main(void) {
  const char *api = getenv("AWS_LAMBDA_RUNTIME_API"), *type = getenv("AWS_LAMBDA_INITIALIZATION_TYPE");
  if (!api || sscanf(api, "%63[^:]:%d", host, &port) != 2) return 2;
  for (long i = 2; i <= LIMIT; i++) {
    if (composite[i]) continue;
    prime_count++;
    for (long j = i * i; j <= LIMIT; j += i) composite[j] = 1;
  }
  printf("init: %d primes, handler %s\n", prime_count, getenv("_HANDLER"));
  fflush(stdout);
  if (type && !strcmp(type, "snap-start")) {
    // Everything up to here is in the snapshot; every environment begins with the answer to this.
    ask("GET", "restore/next", NULL);
    printf("restored\n");
    fflush(stdout);
  }
  for (;;) {
    char *event = ask("GET", "invocation/next", NULL), *request = header("lambda-runtime-aws-request-id"), path[128], answer[256];
    int letters = 0;
    for (size_t i = 0; i < body_length; i++) letters += isalpha((unsigned char)event[i]) != 0;
    if (strstr(event, "\"fail\"")) {
      snprintf(path, sizeof path, "invocation/%s/error", request ? request : "");
      snprintf(answer, sizeof answer, "{\"errorType\":\"Example.Error\",\"errorMessage\":\"asked to fail\"}");
    } else {
      snprintf(path, sizeof path, "invocation/%s/response", request ? request : "");
      snprintf(answer, sizeof answer, "{\"letters\":%d,\"primes\":%d,\"invocation\":%d,\"handler\":\"%s\"}", letters, prime_count, ++invocations,
               getenv("_HANDLER"));
    }
    free(request);
    ask("POST", path, answer);
  }
}
