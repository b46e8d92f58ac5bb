// What the engine needs of the kernel and cannot say in Swift: variadic C functions (ptrace, syscall, ioctl) and numbers that
// Glibc's Swift module does not import. No policy here.
#pragma once

#include <linux/aio_abi.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/user.h>

// Any system call by number (syscall(2)); answers the result or -errno.
long thaw_syscall(long number, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e, uintptr_t f);

// ptrace(2) without glibc's PEEK special cases; answers the result or -errno.
long thaw_ptrace(long request, int tid, uintptr_t address, uintptr_t data);

// waitpid(2) for one thread with __WALL; answers the tid or -errno, the status in *status.
long thaw_wait_thread(int tid, int *_Nonnull status);

// One region of a PAGEMAP_SCAN answer: struct page_region of linux/fs.h.
struct thaw_page_region {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};

// PAGEMAP_SCAN (linux/fs.h, kernel 6.7) over [start, end): regions in `out`, at most `capacity`; only pages in one of the categories of
// `any_of`; each region's categories are masked with `wanted`. *walk_end is where it stopped. Answers the number of regions or -errno.
long thaw_pagemap_scan(int pagemap, uint64_t start, uint64_t end, uint64_t any_of, uint64_t wanted,
                       struct thaw_page_region *_Nonnull out, size_t capacity, uint64_t *_Nonnull walk_end);

// FIONREAD (bytes that wait in a socket or pipe); answers the count or -errno.
long thaw_bytes_waiting(int descriptor);

// A unix socket as sock_diag(7) shows it.
struct thaw_unix_socket {
  uint64_t inode, peer; // peer 0: none
  uint32_t queued;      // connections that wait to be accepted, or bytes that wait to be read
  uint32_t backlog;     // of a listening socket
  uint32_t shutdown;    // RCV_SHUTDOWN 1, SEND_SHUTDOWN 2
};

// All unix sockets of the calling thread's network namespace in `out`, at most `capacity`. Answers their number or -errno.
long thaw_unix_sockets(struct thaw_unix_socket *_Nonnull out, size_t capacity);

// Looks at a message that waits in a socket without taking it (recvmsg(2), MSG_PEEK | MSG_DONTWAIT); its own length also where it is longer than
// `length`. *carries is set if it carries descriptors, which are closed again. Answers its length or -errno.
long thaw_peek_message(int socket, void *_Nonnull bytes, size_t length, int *_Nonnull carries);

// Bits of XCR0: the XSAVE components this machine has enabled (xgetbv).
uint64_t thaw_xcr0(void);

// Numbers, from linux/ptrace.h, linux/fs.h, linux/kcmp.h, sys/syscall.h.
enum {
  THAW_PTRACE_SEIZE = 0x4206,
  THAW_PTRACE_INTERRUPT = 0x4207,
  THAW_PTRACE_DETACH = 17,
  THAW_PTRACE_GETREGS = 12,
  THAW_PTRACE_SETREGS = 13,
  THAW_PTRACE_SINGLESTEP = 9,
  THAW_PTRACE_GETREGSET = 0x4204,
  THAW_PTRACE_PEEKSIGINFO = 0x4209,
  THAW_PTRACE_PEEKSIGINFO_SHARED = 1,
  THAW_PTRACE_GETSIGMASK = 0x420a,
  THAW_PTRACE_SETSIGMASK = 0x420b,
  THAW_PTRACE_SECCOMP_GET_FILTER = 0x420c,
  THAW_PTRACE_GET_RSEQ_CONFIGURATION = 0x420f,
  THAW_PTRACE_O_SUSPEND_SECCOMP = 1 << 21,
  THAW_NT_X86_XSTATE = 0x202,
  THAW_PAGE_IS_FILE = 1 << 2,
  THAW_PAGE_IS_PRESENT = 1 << 3,
  THAW_PAGE_IS_SWAPPED = 1 << 4,
  THAW_PAGE_IS_PFNZERO = 1 << 5,
  THAW_PAGE_IS_GUARD = 1 << 8,
  THAW_KCMP_FILE = 0,
};
