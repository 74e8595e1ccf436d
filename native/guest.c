/*
 * The guest: PID 1 of every sandbox. It starts programs, streams what they write, ends whole process trees and does
 * the file operations, all for the host, over one inherited socket (fd 3). It knows nothing and holds no secret.
 *
 * Promises
 * - S5: when the socket closes it exits, and the kernel ends everything else in its pid namespace.
 * - It cannot be read, traced or signalled from inside (non-dumpable, every signal blocked), and the socket is never
 *   inherited by anything it starts.
 * - Bounded memory: static buffers; a flood waits in its pipe (guest-calls.h); frames are capped (guest-wire.h).
 *
 * `guest --subreaper` is the same without a pid namespace of its own (isolation `none`).
 */
#define _GNU_SOURCE
#include "guest-calls.h"
#include "guest-files.h"
#include "guest-walk.h"
#include <sys/resource.h>
#include <sys/signalfd.h>

enum { RETRY_KILL_MS = 3 };

struct source {
  struct call *call;
  int pipe; /* -1: the status pipe */
};

static struct pollfd polled[2 + MAX_CALLS * 4];
static struct source sources[2 + MAX_CALLS * 4];
static int strays_left;

static void handle_frame(uint8_t type, uint32_t id, struct cursor *c) {
  struct call *call = find_call(id);
  switch (type) {
  case SPAWN: return spawn_call(id, c);
  case STDIN: return stdin_data(id, c);
  case STAT: return file_stat(id, c);
  case READ: return file_read(id, c);
  case WALK: return file_walk(id, c);
  case PUT_BEGIN: return put_begin(id, c);
  case PUT_DATA: return put_data(id, c);
  case PUT_COMMIT: return put_commit(id, c);
  case REMOVE: return file_remove(id, c);
  case HASH: return file_hash(id, c);
  case CREDIT: {
    uint32_t credit = take_u32(c);
    take_end(c);
    if (call != NULL) call->credit += credit; /* it may have ended meanwhile */
    return;
  }
  case DISCARD:
    take_end(c);
    if (call != NULL) call->discard = 1;
    return;
  case KILL:
    take_end(c);
    if (call != NULL && call->kill_attempts == 0) call->kill_attempts = 1;
    return;
  case HOLD:
    take_end(c);
    hold_still();
    return reply_status(id, 0);
  case LET_GO:
    take_end(c);
    return let_go();
  default: end_guest(71);
  }
}

/* Handles whole frames; stops early while much waits to be sent. Returns whether there was one. */
static int handle_received(void) {
  size_t at = 0;
  while (in_used - at >= HEADER && out_pending() < OUT_HIGH_WATER) {
    uint32_t size, id;
    memcpy(&size, in_buffer + at, 4);
    if (size < 5 || size > MAX_FRAME) end_guest(71);
    if (in_used - at - 4 < size) break;
    uint8_t *frame = in_buffer + at + 4;
    memcpy(&id, frame + 1, 4);
    struct cursor c = {frame + 5, frame + size};
    handle_frame(frame[0], id, &c);
    at += 4 + size;
  }
  if (at == 0) return 0;
  if (at > (128 << 10) && at == in_used) give_back(in_buffer, sizeof in_buffer);
  memmove(in_buffer, in_buffer + at, in_used - at);
  in_used -= at;
  return 1;
}

static void receive(void) {
  ssize_t n = read(RPC_FD, in_buffer + in_used, sizeof in_buffer - in_used);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n > 0) in_used += (size_t)n;
  else {
    in_used = 0;
    strays_left = -1; /* the owner is gone */
  }
}

static nfds_t gather(int signal_fd) {
  int roomy = out_pending() < OUT_HIGH_WATER;
  nfds_t n = 2;
  polled[0] = (struct pollfd){RPC_FD, (short)((roomy && in_used < sizeof in_buffer ? POLLIN : 0) |
                                              (out_pending() > 0 ? POLLOUT : 0)), 0};
  polled[1] = (struct pollfd){signal_fd, POLLIN, 0};
  for (int k = 0; k < MAX_CALLS; k++) {
    struct call *c = &calls[k];
    if (!c->used) continue;
    if (c->status_fd >= 0) {
      sources[n] = (struct source){c, -1};
      polled[n++] = (struct pollfd){c->status_fd, POLLIN, 0};
    }
    for (int i = 0; i < PIPES; i++) {
      int wanted = is_dropped(c, i) || (roomy && c->credit > 0 && (!c->ended || c->due[i] > 0));
      if (c->pipe[i] < 0 || !wanted) continue;
      sources[n] = (struct source){c, i};
      polled[n++] = (struct pollfd){c->pipe[i], POLLIN, 0};
    }
  }
  return n;
}

static int advance_kills(void) {
  int busy = 0;
  for (int k = 0; k < MAX_CALLS; k++) {
    struct call *c = &calls[k];
    if (!c->used || c->kill_attempts == 0 || c->supervisor == 0) continue;
    kill_below(c->supervisor, c->kill_attempts++);
    busy = 1;
  }
  if (strays_left > 0) strays_left = kill_strays(), busy |= strays_left;
  return busy;
}

static void serve(int signal_fd) {
  for (;;) {
    int busy = advance_kills();
    nfds_t n = gather(signal_fd);
    if (poll(polled, n, busy ? RETRY_KILL_MS : -1) < 0 && errno != EINTR) end_guest(73);
    if (polled[1].revents & POLLIN) {
      struct signalfd_siginfo ignored[8];
      while (read(signal_fd, ignored, sizeof ignored) > 0) {
      }
      if (reap()) strays_left = 1;
    }
    for (nfds_t i = 2; i < n; i++) {
      if (polled[i].revents == 0) continue;
      if (sources[i].pipe < 0) status_ready(sources[i].call);
      else if (out_pending() < OUT_HIGH_WATER || is_dropped(sources[i].call, sources[i].pipe))
        pipe_ready(sources[i].call, sources[i].pipe);
    }
    if (polled[0].revents & (POLLIN | POLLHUP | POLLERR)) receive();
    if (strays_left < 0) return;
    /* Again after sending: a frame that waited for room must not wait for the next event, too. */
    while (handle_received()) send_some();
    for (int k = 0; k < MAX_CALLS; k++) {
      if (!calls[k].used) continue;
      deliver_ending(&calls[k]);
      finish_if_gone(&calls[k]);
    }
    send_some();
  }
}

/* Without a pid namespace nobody else ends what we started. */
static void end_everything(void) {
  for (int attempt = 0; attempt < 2000; attempt++) {
    scan_processes();
    mark_descendants(getpid());
    size_t alive = kill_marked();
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
    if (alive == 0 && waitpid(-1, NULL, WNOHANG) < 0) return;
    usleep(1000);
  }
}

/* Set here and not by the launcher: inside the sandbox's own user namespace only the sandbox's processes count, outside
   of it all that the user runs would. */
static int limit_processes(const char *count) {
  char *end;
  errno = 0;
  unsigned long wanted = strtoul(count, &end, 10);
  if (errno != 0 || *count == '\0' || *end != '\0' || wanted == 0) return -1;
  struct rlimit limit = {wanted, wanted};
  return setrlimit(RLIMIT_NPROC, &limit);
}

int main(int argc, char **argv) {
  int is_subreaper = 0;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--subreaper") == 0) is_subreaper = 1;
    else if (strcmp(argv[i], "--nproc") == 0 && i + 1 < argc) {
      if (limit_processes(argv[++i]) < 0) return 64;
    } else return 64;
  }
  prctl(PR_SET_DUMPABLE, 0);
  if (is_subreaper) prctl(PR_SET_CHILD_SUBREAPER, 1);
  close_from(RPC_FD + 1);
  int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd < 3 && null_fd >= 0; fd++) dup2(null_fd, fd);
  if (null_fd > 3) close(null_fd);
  if (fcntl(RPC_FD, F_SETFD, FD_CLOEXEC) < 0 || fcntl(RPC_FD, F_SETFL, O_NONBLOCK) < 0) return 74;
  sigset_t all, child;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, NULL);
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  int signal_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signal_fd < 0) return 74;
  put_u32(open_frame(8), PROTOCOL_VERSION);
  put_u32(out_buffer + out_end + HEADER + 4, (uint32_t)getpid());
  close_frame(HELLO, 0, 8);
  serve(signal_fd);
  if (is_subreaper) end_everything();
  return 0;
}
