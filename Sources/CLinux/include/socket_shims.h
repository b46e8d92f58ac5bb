// Unix sockets that carry descriptors: sendmsg and recvmsg with SCM_RIGHTS, whose macros Swift cannot use.
#pragma once

#include <stddef.h>
#include <stdint.h>

// A connected pair of SOCK_SEQPACKET sockets, close-on-exec; the first is told who sends to it (SO_PASSCRED). Answers 0 or -errno.
long thaw_seqpacket_pair(int *_Nonnull first, int *_Nonnull second);

// Sends one message with `count` descriptors (at most 32); answers its length or -errno. Never raises SIGPIPE.
long thaw_send_message(int socket, const void *_Nonnull bytes, size_t length, const int *_Nullable descriptors, size_t count);

// Receives one message; *count is the room for descriptors (at most 32) and then how many came, all close-on-exec. Answers its length, 0 at the
// end, or -errno; -EMSGSIZE if message or descriptors were cut (what came is closed). *sender: the sender's process id, 0 if that is not told.
long thaw_receive_message(int socket, void *_Nonnull bytes, size_t length, int *_Nonnull descriptors, size_t *_Nonnull count,
                          int *_Nonnull sender, int dont_wait);
