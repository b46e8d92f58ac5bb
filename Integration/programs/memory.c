// Heap, big allocations, zeros that must be zeros again, growth, stack growth, read-only data, guard and wipe-on-fork pages, private file mappings.
#include "harness.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
enum { MB = 1 << 20 };
static int deep(int level) {
  volatile char frame[4096];
  frame[0] = (char)level;
  return level ? deep(level - 1) + (frame[0] == (char)level) : 0;
}
static int table[4] = {1, 2, 3, 4};
static const char *volatile constant = "a constant";

int main(void) {
  unsigned char *heap = malloc(3000), *big = malloc(8 * MB);
  memset(heap, 0x5a, 3000);
  memset(big, 7, 8 * MB);
  unsigned char *anonymous = mmap(NULL, MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(anonymous, 9, MB);
  unsigned char *freeable = mmap(NULL, MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(freeable, 3, MB);
  unsigned char *readonly = mmap(NULL, MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(readonly, 4, MB);
  CHECK(mprotect(readonly, MB, PROT_READ) == 0);
  unsigned char *hidden = mmap(NULL, MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(hidden, 5, MB);
  CHECK(mprotect(hidden, MB, PROT_NONE) == 0);
  unsigned char *reserved = mmap(NULL, 64UL << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(reserved != MAP_FAILED);
  CHECK(mprotect(reserved + (32UL << 30), MB, PROT_READ | PROT_WRITE) == 0);
  reserved[32UL << 30] = 42;
  unsigned char *wiped = mmap(NULL, MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(wiped, 6, MB);
  CHECK(madvise(wiped, MB, MADV_WIPEONFORK) == 0);
  unsigned char *unforked = mmap(NULL, MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(unforked, 8, MB);
  CHECK(madvise(unforked, MB, MADV_DONTFORK) == 0);
  unsigned char *guarded = mmap(NULL, MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(guarded, 2, MB);
  int has_guard = madvise(guarded + 8192, 4096, MADV_GUARD_INSTALL) == 0;
  unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memcpy(code, "\xb8\x2a\x00\x00\x00\xc3", 6);  // mov $42, %eax; ret
  CHECK(mprotect(code, 4096, PROT_READ | PROT_EXEC) == 0);
  int program = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  unsigned char *file = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, program, 0);
  CHECK(file != MAP_FAILED);
  close(program);
  memset(file + 4096, 0, 4096);  // a private page of zeros over a file
  table[2] = 33;
  wait_for_snapshot();
  for (int i = 0; i < 3000; i++) CHECK(heap[i] == 0x5a);
  for (int i = 0; i < 8 * MB; i += 511) CHECK(big[i] == 7);
  CHECK(madvise(anonymous, MB, MADV_DONTNEED) == 0);
  for (int i = 0; i < MB; i += 256) CHECK(anonymous[i] == 0);
  CHECK(madvise(freeable, MB, MADV_FREE) == 0);
  CHECK(freeable[5] == 3 || freeable[5] == 0);
  unsigned char *grown = mremap(big, 8 * MB, 16 * MB, MREMAP_MAYMOVE);
  if (grown != MAP_FAILED) {
    // malloc's block is inside its mapping: this moves only when it began at a page, which it does not.
    failed("mremap of a malloc block succeeded");
  }
  unsigned char *moved = mremap(anonymous, MB, 2 * MB, MREMAP_MAYMOVE);
  CHECK(moved != MAP_FAILED && moved[0] == 0 && moved[MB + 4096] == 0);
  CHECK(readonly[MB - 1] == 4);
  CHECK(mprotect(hidden, MB, PROT_READ) == 0 && hidden[MB / 2] == 5);
  CHECK(reserved[32UL << 30] == 42);
  CHECK(mprotect(reserved, MB, PROT_READ | PROT_WRITE) == 0 && reserved[0] == 0);
  for (int i = 0; i < MB; i += 4096) CHECK(wiped[i] == 0);  // as after a fork
  CHECK(unforked[100] == 8);
  CHECK(guarded[8191] == 2 && guarded[12288] == 2);
  if (has_guard) {
    // A guard region cannot be read by the kernel either.
    int ends[2];
    CHECK(pipe(ends) == 0 && write(ends[1], guarded + 8192, 1) == -1 && errno == EFAULT);
  }
  CHECK(((int (*)(void))code)() == 42);
  CHECK(memcmp(file, "\177ELF", 4) == 0 && file[4096] == 0 && file[8191] == 0);
  CHECK(table[2] == 33 && strcmp(constant, "a constant") == 0);
  CHECK(deep(1500) == 1500);
  void *end = sbrk(0);
  CHECK(sbrk(MB) == end);
  memset(end, 1, MB);
  unsigned char *zeros = calloc(1, 5 * MB);
  for (int i = 0; i < 5 * MB; i += 512) CHECK(zeros[i] == 0);
  struct timespec time;
  CHECK(clock_gettime(CLOCK_MONOTONIC, &time) == 0 && clock_gettime(CLOCK_REALTIME, &time) == 0 && time.tv_sec > 1700000000);
  char link[64] = {0};
  CHECK(readlink("/proc/self/exe", link, 63) > 0 && strstr(link, "memory") != NULL);
  succeeded();
}
