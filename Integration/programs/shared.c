// Memory and files that are shared or have no name: shared anonymous memory, memory files open, mapped, both, sealed and mapped twice, deleted and
// unnamed files, files of /tmp mapped shared, /dev/shm. Every clone has its own, with the snapshot's content.
#include "harness.h"
#include <semaphore.h>
#include <sys/random.h>

enum { MB = 1 << 20, PAGE = 4096 };

// Writes something of its own through one address, sees it through the other, and finds it unchanged while its siblings do the same.
static void is_private(volatile uint64_t *one, volatile uint64_t *other) {
  uint64_t value;
  CHECK(getrandom(&value, sizeof value, 0) == sizeof value);
  *one = value;
  CHECK(*other == value);
  usleep(30000);
  CHECK(*one == value && *other == value);
}

int main(void) {
  // Shared anonymous memory: once, sparse and large, twice the same pages, protected in part, with a mutex in it.
  unsigned char *anonymous = mmap(NULL, 3 * MB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  memset(anonymous + MB, 11, MB);
  CHECK(mprotect(anonymous + 2 * MB, MB, PROT_READ) == 0);
  unsigned char *sparse = mmap(NULL, 1UL << 30, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(sparse != MAP_FAILED);
  sparse[700 * MB] = 7;
  unsigned char *twice = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  unsigned char *again = mremap(twice, 0, 8 * PAGE, MREMAP_MAYMOVE);
  CHECK(again != MAP_FAILED && again != twice);
  twice[PAGE] = 99;
  CHECK(again[PAGE] == 99);
  pthread_mutex_t *mutex = (pthread_mutex_t *)anonymous;
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(mutex, &attributes);
  pthread_mutex_lock(mutex);

  // Memory files.
  int open_only = memfd_create("open only", MFD_CLOEXEC);
  CHECK(write(open_only, "0123456789", 10) == 10 && lseek(open_only, 3, SEEK_SET) == 3);
  int copy = dup(open_only);
  int code = memfd_create("jit", 0);  // one page writable here and executable there
  CHECK(ftruncate(code, 2 * PAGE) == 0);
  unsigned char *writable = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, code, 0);
  unsigned char *executable = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, code, 0);
  memcpy(writable, "\xb8\x2a\x00\x00\x00\xc3", 6);  // mov $42, %eax; ret
  int mapped_only = memfd_create("mapped only", 0);
  CHECK(ftruncate(mapped_only, 8 * MB) == 0);
  unsigned char *mapped = mmap(NULL, 8 * MB, PROT_READ | PROT_WRITE, MAP_SHARED, mapped_only, 0);
  unsigned char *part = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, mapped_only, 5 * MB);
  for (int i = 0; i < 8 * MB; i += 256) mapped[i] = (unsigned char)(i >> 12);
  close(mapped_only);
  int sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
  CHECK(write(sealed, "for good", 8) == 8 && fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) == 0);
  int future = memfd_create("future", MFD_ALLOW_SEALING);
  CHECK(ftruncate(future, PAGE) == 0);
  unsigned char *still = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, future, 0);
  CHECK(fcntl(future, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0);
  still[5] = 55;
  int base = memfd_create("private", 0);
  char page[PAGE];
  for (int i = 0; i < 3; i++) {
    memset(page, 'a' + i, PAGE);
    CHECK(write(base, page, PAGE) == PAGE);
  }
  unsigned char *changed = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, base, 0);
  memset(changed + PAGE, 'z', PAGE);
  CHECK(mprotect(changed, 3 * PAGE, PROT_READ) == 0);
  int reader = open("/proc/self/fd/4", O_RDONLY);  // some descriptor opened once more
  (void)reader;
  close(reader);

  // Files without a name.
  int deleted = open("/tmp/gone", O_CREAT | O_RDWR | O_APPEND, 0640);
  CHECK(write(deleted, "deleted", 7) == 7 && unlink("/tmp/gone") == 0);
  int replaced = open("/tmp/replaced", O_CREAT | O_RDWR, 0600);
  CHECK(write(replaced, "the old one", 11) == 11 && unlink("/tmp/replaced") == 0);
  int newer = open("/tmp/replaced", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  CHECK(write(newer, "the new one", 11) == 11);
  CHECK(mkdir("/tmp/lost", 0700) == 0);
  int orphan = open("/tmp/lost/file", O_CREAT | O_RDWR, 0600);
  CHECK(write(orphan, "an orphan", 9) == 9 && unlink("/tmp/lost/file") == 0 && rmdir("/tmp/lost") == 0);
  unsigned char *orphan_map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, orphan, 0);
  int unnamed = open("/tmp", O_TMPFILE | O_RDWR, 0644);
  CHECK(unnamed >= 0 && write(unnamed, "unnamed", 7) == 7);

  // Files with one.
  int file = open("/tmp/file", O_CREAT | O_RDWR, 0600), readonly;
  CHECK(ftruncate(file, 4 * PAGE) == 0);
  unsigned char *filed = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  filed[2 * PAGE] = 22;
  readonly = open("/tmp/file", O_RDONLY);
  unsigned char *seen = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, readonly, 0);
  int named = shm_open("/named", O_CREAT | O_RDWR, 0600);
  CHECK(named >= 0 && ftruncate(named, PAGE) == 0);
  unsigned char *named_map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, named, 0);
  named_map[9] = 19;
  close(named);
  int unopened = shm_open("/unopened", O_CREAT | O_RDWR, 0640);
  CHECK(write(unopened, "unopened", 8) == 8);
  close(unopened);
  sem_t *semaphore = sem_open("/semaphore", O_CREAT | O_EXCL, 0600, 2);
  CHECK(semaphore != SEM_FAILED && sem_unlink("/semaphore") == 0);  // as Python's multiprocessing does

  wait_for_snapshot();

  char buffer[64];
  for (int i = 0; i < MB; i += 64) CHECK(anonymous[MB + i] == 11 && (i < PAGE || anonymous[i] == 0));
  CHECK(pthread_mutex_trylock(mutex) == EBUSY && pthread_mutex_unlock(mutex) == 0 && pthread_mutex_lock(mutex) == 0);
  CHECK(sparse[700 * MB] == 7 && sparse[100 * MB] == 0);
  sparse[900 * MB] = 1;
  CHECK(madvise(sparse + 700 * MB, MB, MADV_DONTNEED) == 0 && sparse[700 * MB] == 7);  // shared memory stays
  CHECK(madvise(sparse + 700 * MB, MB, MADV_REMOVE) == 0 && sparse[700 * MB] == 0);
  CHECK(again[PAGE] == 99);
  is_private((uint64_t *)(twice + 3 * PAGE), (uint64_t *)(again + 3 * PAGE));
  is_private((uint64_t *)(again + 1000), (uint64_t *)(twice + 1000));
  struct stat status;
  CHECK(mprotect(anonymous + 2 * MB, MB, PROT_READ | PROT_WRITE) == 0);

  CHECK(read(copy, buffer, 64) == 7 && memcmp(buffer, "3456789", 7) == 0 && lseek(open_only, 0, SEEK_CUR) == 10);
  CHECK(fcntl(open_only, F_GETFD) == FD_CLOEXEC && fcntl(open_only, F_GET_SEALS) == F_SEAL_SEAL);
  CHECK(fstat(open_only, &status) == 0 && status.st_uid == getuid() && status.st_size == 10 && fchmod(open_only, 0600) == 0);
  CHECK(readlink("/proc/self/fd/3", buffer, 64) == 26 && memcmp(buffer, "/memfd:open only (deleted)", 26) == 0);
  CHECK(((int (*)(void))executable)() == 42);
  writable[1] = 43;
  CHECK(((int (*)(void))executable)() == 43 && pread(code, buffer, 2, 0) == 2 && buffer[1] == 43);
  CHECK(mprotect(executable, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);  // it was mapped from a writable descriptor
  for (int i = 0; i < 8 * MB; i += 256) CHECK(mapped[i] == (unsigned char)(i >> 12));
  is_private((uint64_t *)(mapped + 5 * MB + 16), (uint64_t *)(part + 16));
  CHECK(pread(sealed, buffer, 64, 0) == 8 && memcmp(buffer, "for good", 8) == 0);
  CHECK(write(sealed, "x", 1) == -1 && errno == EPERM && fcntl(sealed, F_GET_SEALS) == (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK));
  CHECK(still[5] == 55 && (still[6] = 66) && pread(future, buffer, 2, 5) == 2 && buffer[1] == 66);
  CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, future, 0) == MAP_FAILED && errno == EPERM);
  CHECK(changed[0] == 'a' && changed[PAGE] == 'z' && changed[2 * PAGE - 1] == 'z' && changed[2 * PAGE] == 'c');
  CHECK(pread(base, buffer, 1, PAGE) == 1 && buffer[0] == 'b');
  CHECK(mprotect(changed, 3 * PAGE, PROT_READ | PROT_WRITE) == 0 && madvise(changed, 3 * PAGE, MADV_DONTNEED) == 0 && changed[PAGE] == 'b');

  CHECK(pread(deleted, buffer, 64, 0) == 7 && memcmp(buffer, "deleted", 7) == 0 && access("/tmp/gone", F_OK) == -1);
  CHECK(write(deleted, "!", 1) == 1 && fstat(deleted, &status) == 0 && status.st_size == 8 && status.st_nlink == 0 && (status.st_mode & 07777) == 0640);
  CHECK(pread(replaced, buffer, 64, 0) == 11 && memcmp(buffer, "the old one", 11) == 0);
  CHECK(pread(newer, buffer, 64, 0) == 11 && memcmp(buffer, "the new one", 11) == 0 && access("/tmp/replaced", F_OK) == 0);
  CHECK(pread(orphan, buffer, 64, 0) == 9 && memcmp(buffer, "an orphan", 9) == 0);
  orphan_map[0] = 'A';
  CHECK(pread(orphan, buffer, 2, 0) == 2 && memcmp(buffer, "An", 2) == 0);
  CHECK(pread(unnamed, buffer, 64, 0) == 7 && memcmp(buffer, "unnamed", 7) == 0);
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", unnamed);
  CHECK(linkat(AT_FDCWD, link, AT_FDCWD, "/tmp/named now", AT_SYMLINK_FOLLOW) == 0 && stat("/tmp/named now", &status) == 0);
  CHECK(status.st_size == 7 && (status.st_mode & 07777) == 0644 && status.st_uid == getuid());

  CHECK(filed[2 * PAGE] == 22 && seen[2 * PAGE] == 22);
  is_private((uint64_t *)(filed + 8), (uint64_t *)(seen + 8));
  CHECK(pread(readonly, buffer, 8, 8) == 8 && memcmp(buffer, filed + 8, 8) == 0);
  CHECK(mprotect(seen, PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);  // it was mapped from a read-only descriptor
  named = shm_open("/named", O_RDWR, 0);
  CHECK(named >= 0 && named_map[9] == 19 && pread(named, buffer, 1, 9) == 1 && buffer[0] == 19);
  is_private((uint64_t *)(named_map + 64), (uint64_t *)(named_map + 64));
  unopened = shm_open("/unopened", O_RDWR, 0);
  CHECK(unopened >= 0 && read(unopened, buffer, 64) == 8 && memcmp(buffer, "unopened", 8) == 0);
  CHECK(fstat(unopened, &status) == 0 && (status.st_mode & 07777) == 0640 && status.st_uid == getuid());
  CHECK(sem_trywait(semaphore) == 0 && sem_trywait(semaphore) == 0 && sem_trywait(semaphore) == -1 && errno == EAGAIN);
  CHECK(shm_open("/semaphore", O_RDWR, 0) == -1 && errno == ENOENT);
  // What the clone was made with is gone: no mapping that the program did not make.
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[512];
  int devices = 0;
  while (fgets(line, sizeof line, maps)) devices += strstr(line, "/dev/zero") != NULL;
  CHECK(devices <= 5);
  succeeded();
}
