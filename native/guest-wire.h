/*
 * The frames between guest and host: u32 length of the rest | u8 type | u32 id | payload, little endian.
 *
 * Promises: a frame longer than MAX_FRAME, or one that is not exactly filled by what its type holds, ends the guest
 * (and with it the sandbox): the host is the only peer, so a bad frame is a bug and going on would be a guess.
 * All memory is static: what a frame says never decides how much is allocated.
 */
#ifndef SCRIPTORIUM_GUEST_WIRE_H
#define SCRIPTORIUM_GUEST_WIRE_H

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PROTOCOL_VERSION = 1, RPC_FD = 3, HEADER = 9 };
enum { MAX_DATA = 1 << 20, MAX_FRAME = MAX_DATA + (64 << 10), OUT_CAPACITY = 3 << 20 };
/* Nothing more is read, from the host or from a call's pipes, while this much waits to be sent. */
enum { OUT_HIGH_WATER = 512 << 10 };

/* host -> guest */
enum {
  SPAWN = 1, STDIN, CREDIT, DISCARD, KILL, STAT, READ, WALK, PUT_BEGIN, PUT_DATA, PUT_COMMIT, REMOVE, HASH, HOLD, LET_GO
};
/* guest -> host */
enum { HELLO = 64, OUT = 66, EXIT, GONE, REPLY, PART };
/* REPLY statuses beside errno values */
enum { NOT_A_FILE = 1001, CHANGED = 1002, TOO_LARGE = 1003 };

static uint8_t in_buffer[4 + MAX_FRAME];
static size_t in_used;
static uint8_t out_buffer[OUT_CAPACITY];
static size_t out_start, out_end;

static _Noreturn void end_guest(int code) { _exit(code); }

/* ---- sending ---- */

static size_t out_pending(void) { return out_end - out_start; }

/* Pages that a large frame touched go back to the kernel: an idle guest stays small. */
static void give_back(uint8_t *buffer, size_t capacity) {
  uintptr_t from = ((uintptr_t)buffer + (128 << 10) + 4095) & ~(uintptr_t)4095;
  uintptr_t to = ((uintptr_t)buffer + capacity) & ~(uintptr_t)4095;
  if (to > from) madvise((void *)from, to - from, MADV_DONTNEED);
}

static void send_some(void) {
  while (out_pending() > 0) {
    ssize_t n = write(RPC_FD, out_buffer + out_start, out_pending());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) end_guest(0); /* the host is gone */
    out_start += (size_t)n;
  }
  if (out_end > (128 << 10)) give_back(out_buffer, OUT_CAPACITY);
  out_start = out_end = 0;
}

static void send_all(void) {
  for (send_some(); out_pending() > 0; send_some()) {
    struct pollfd wait = {RPC_FD, POLLOUT, 0};
    poll(&wait, 1, -1);
  }
}

static void put_u32(uint8_t *at, uint32_t value) { memcpy(at, &value, 4); }
static void put_u64(uint8_t *at, uint64_t value) { memcpy(at, &value, 8); }

/* Room for a frame with up to `size` payload bytes; `close_frame` says how many there really are. */
static uint8_t *open_frame(size_t size) {
  if (OUT_CAPACITY - out_end < HEADER + size) {
    memmove(out_buffer, out_buffer + out_start, out_pending());
    out_end -= out_start, out_start = 0;
  }
  if (OUT_CAPACITY - out_end < HEADER + size) send_all();
  return out_buffer + out_end + HEADER;
}

static void close_frame(uint8_t type, uint32_t id, size_t size) {
  put_u32(out_buffer + out_end, (uint32_t)(size + 5));
  out_buffer[out_end + 4] = type;
  put_u32(out_buffer + out_end + 5, id);
  out_end += HEADER + size;
}

static void reply_status(uint32_t id, int status) {
  uint8_t *at = open_frame(4);
  put_u32(at, (uint32_t)status);
  close_frame(REPLY, id, 4);
}

/* ---- taking a received frame apart ---- */

struct cursor {
  uint8_t *at, *end;
};

static uint8_t *take(struct cursor *c, size_t size) {
  if ((size_t)(c->end - c->at) < size) end_guest(71);
  uint8_t *here = c->at;
  c->at += size;
  return here;
}

static uint8_t take_u8(struct cursor *c) { return *take(c, 1); }

static uint32_t take_u32(struct cursor *c) {
  uint32_t value;
  memcpy(&value, take(c, 4), 4);
  return value;
}

static uint64_t take_u64(struct cursor *c) {
  uint64_t value;
  memcpy(&value, take(c, 8), 8);
  return value;
}

/* Strings carry their own NUL, which must be the only one: no copying, no surprises for the system calls. */
static char *take_string(struct cursor *c) {
  uint32_t size = take_u32(c);
  if (size == 0 || size > MAX_FRAME) end_guest(71);
  char *text = (char *)take(c, size);
  if (memchr(text, 0, size) != text + size - 1) end_guest(71);
  return text;
}

/* A NULL-terminated vector; the caller's array bounds how many there may be. */
static uint32_t take_strings(struct cursor *c, char **into, uint32_t most) {
  uint32_t count = take_u32(c);
  if (count > most) end_guest(71);
  for (uint32_t i = 0; i < count; i++) into[i] = take_string(c);
  into[count] = NULL;
  return count;
}

static void take_end(const struct cursor *c) {
  if (c->at != c->end) end_guest(71);
}

#endif
