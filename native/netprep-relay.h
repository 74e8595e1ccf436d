/*
 * The relay: Node cannot receive descriptors over a socket of its own, but it can from a child, over the channel that
 * `fork` and `cluster` use. This is that child. Descriptor 3 is the channel, a line of JSON each:
 *
 *   to Node    {"ticket":"…","id":N}     is it good?          from Node   "N ok" | "N no WHY"
 *              {"cmd":"NODE_HANDLE",…}   with a descriptor                {"cmd":"NODE_HANDLE_ACK"}
 *              {"gone":N}                its holder has ended
 *
 * Promises: everybody on the machine may connect, so whatever comes is refused until it is a ticket that Node knows and
 * the two sockets it must be; a silent caller has two seconds and one of a few places; Node is asked one thing at a time.
 */
#ifndef SCRIPTORIUM_NETPREP_RELAY_H
#define SCRIPTORIUM_NETPREP_RELAY_H

#include "netprep-hold.h"
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

enum { CHANNEL = 3, MAX_CALLERS = 4096, MAX_SILENT = 64, SILENT_MS = 2000, NODE_SECONDS = 10, MAX_LINE = 512 };

struct caller {
  int fd;
  unsigned id;     /* 0: has said nothing yet */
  int64_t born_ms;
};
static struct caller callers[MAX_CALLERS];
static int caller_count;
static unsigned last_id;

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Node is gone, or stuck: either way a relay without it is of no use. */
static _Noreturn void leave(void) { _exit(0); }

static void tell_node(const char *line, int fd) {
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct iovec text = {(void *)line, strlen(line)};
  struct msghdr message = {.msg_iov = &text, .msg_iovlen = 1};
  if (fd >= 0) {
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  while (text.iov_len > 0) {
    ssize_t sent = sendmsg(CHANNEL, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) leave();
    text.iov_base = (char *)text.iov_base + sent;
    text.iov_len -= (size_t)sent;
    message.msg_control = NULL;
    message.msg_controllen = 0;
  }
}

/* The next line of Node, which it has ten seconds to say. */
static void hear_node(char line[MAX_LINE]) {
  size_t used = 0;
  for (;;) {
    ssize_t size = recv(CHANNEL, line + used, 1, 0);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) leave();
    if (line[used] == '\n') break;
    if (++used == MAX_LINE - 1) leave();
  }
  line[used] = 0;
}

static int is_socket_of(int fd, int type, int listens) {
  int family = 0, kind = 0, accepts = 0;
  socklen_t size = sizeof(int);
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size) < 0 || family != AF_INET) return 0;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &size) < 0 || kind != type) return 0;
  return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &size) == 0 && accepts == listens;
}

static void ask_ticket(unsigned id, const char *ticket) {
  char line[2 * MAX_TICKET + 64], *at = line + sprintf(line, "{\"ticket\":\"");
  for (; *ticket; ticket++) {
    if (*ticket == '"' || *ticket == '\\') *at++ = '\\';
    *at++ = *ticket;
  }
  sprintf(at, "\",\"id\":%u}\n", id);
  tell_node(line, -1);
}

static void hand_over(unsigned id, const char *type, int fd) {
  char line[MAX_LINE];
  snprintf(line, sizeof line, "{\"cmd\":\"NODE_HANDLE\",\"type\":\"%s.Native\",\"msg\":{\"id\":%u,\"kind\":\"%s\"}}\n", type, id, type);
  tell_node(line, fd);
  hear_node(line);
  if (strcmp(line, "{\"cmd\":\"NODE_HANDLE_ACK\"}") != 0) leave();
}

/* Null when presented, else why not. */
static const char *present(unsigned id, const char *ticket, const int *fds) {
  static char line[MAX_LINE];
  char expected[64];
  ask_ticket(id, ticket);
  hear_node(line);
  snprintf(expected, sizeof expected, "\"%u ok\"", id);
  if (strcmp(line, expected) != 0) {
    /* "N no WHY" */
    char *why = strstr(line, " no ");
    line[strlen(line) - 1] = 0;
    return why == NULL ? "not accepted" : why + 4;
  }
  hand_over(id, "net", fds[0]);
  hand_over(id, "dgram", fds[1]);
  return NULL;
}

static void answer(int fd, const char *text) {
  /* A caller that reads nothing gets nothing. */
  if (send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return;
}

/* Takes descriptors out of a message; all beyond two were dropped by the kernel. */
static int take_descriptors(struct msghdr *message, int fds[2]) {
  int count = 0;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    int found = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (int i = 0; i < found; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + (size_t)i * sizeof fd, sizeof fd);
      if (count < 2) fds[count++] = fd;
      else close(fd);
    }
  }
  return count;
}

/* Returns whether the caller stays: only one whose sockets Node has. */
static int hear_caller(struct caller *c) {
  char ticket[MAX_TICKET + 1], words[MAX_ANSWER];
  int fds[2] = {-1, -1};
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(2 * sizeof(int))];
  } control;
  struct iovec text = {ticket, MAX_TICKET};
  struct msghdr message = {.msg_iov = &text, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t size = recvmsg(c->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
  int count = size < 0 ? 0 : take_descriptors(&message, fds);
  const char *why = NULL;
  if (c->id != 0 || size <= 0) why = "";
  else if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || !is_ticket(ticket, (size_t)size)) why = "not a ticket";
  else if (count != 2 || !is_socket_of(fds[0], SOCK_STREAM, 1) || !is_socket_of(fds[1], SOCK_DGRAM, 0))
    why = "not the sockets of a capture namespace";
  else {
    ticket[size] = 0;
    unsigned id = ++last_id;
    why = present(id, ticket, fds);
    if (why == NULL) c->id = id;
  }
  for (int i = 0; i < 2; i++)
    if (fds[i] >= 0) close(fds[i]);
  snprintf(words, sizeof words, "no %s", why == NULL ? "" : why);
  if (why == NULL || *why) answer(c->fd, why == NULL ? "ok" : words);
  return why == NULL;
}

static void drop(int at) {
  char line[MAX_LINE];
  snprintf(line, sizeof line, "{\"gone\":%u}\n", callers[at].id);
  if (callers[at].id != 0) tell_node(line, -1);
  close(callers[at].fd);
  callers[at] = callers[--caller_count];
}

/* Drops who is silent for too long; returns the place of the longest silent one, or -1 where there is room. */
static int drop_silent(void) {
  int silent = 0, oldest = -1;
  for (int i = caller_count - 1; i >= 0; i--)
    if (callers[i].id == 0 && now_ms() - callers[i].born_ms > SILENT_MS) drop(i);
  for (int i = 0; i < caller_count; i++) {
    if (callers[i].id != 0) continue;
    silent++;
    if (oldest < 0 || callers[i].born_ms < callers[oldest].born_ms) oldest = i;
  }
  return silent >= MAX_SILENT ? oldest : -1;
}

static void let_in(int listener) {
  int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) {
    /* Out of descriptors: the caller waits, and so do we. */
    if (errno != EAGAIN) usleep(10000);
    return;
  }
  int oldest = drop_silent();
  if (oldest >= 0) drop(oldest);
  if (caller_count == MAX_CALLERS) {
    close(fd);
    return;
  }
  callers[caller_count++] = (struct caller){fd, 0, now_ms()};
}

static int listen_in(const char *folder) {
  struct sockaddr_un here = {AF_UNIX, CAPTURE_SOCKET};
  int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (s < 0 || chdir(folder) < 0) fail(folder);
  if (unlink(CAPTURE_SOCKET) < 0 && errno != ENOENT) fail("cannot replace " CAPTURE_SOCKET);
  if (bind(s, (struct sockaddr *)&here, sizeof here) < 0 || chmod(CAPTURE_SOCKET, 0666) < 0 || listen(s, 128) < 0)
    fail("cannot listen on " CAPTURE_SOCKET);
  return s;
}

static int relay(const char *folder) {
  static struct pollfd polled[MAX_CALLERS + 2];
  struct rlimit files;
  struct timeval patience = {NODE_SECONDS, 0};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  fcntl(CHANNEL, F_SETFL, fcntl(CHANNEL, F_GETFL) & ~O_NONBLOCK);
  if (setsockopt(CHANNEL, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
      setsockopt(CHANNEL, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0)
    fail("no channel to the gateway");
  int listener = listen_in(folder);
  tell_node("{\"listening\":true}\n", -1);
  for (;;) {
    polled[0] = (struct pollfd){CHANNEL, POLLIN, 0};
    polled[1] = (struct pollfd){listener, POLLIN, 0};
    for (int i = 0; i < caller_count; i++) polled[i + 2] = (struct pollfd){callers[i].fd, POLLIN, 0};
    int count = caller_count;
    if (poll(polled, (nfds_t)count + 2, SILENT_MS) < 0 && errno != EINTR) return 1;
    /* Node says nothing unasked: what comes here is its end. */
    if (polled[0].revents != 0) leave();
    /* From the end: dropping one moves the last into its place. */
    for (int i = count - 1; i >= 0; i--)
      if (polled[i + 2].revents != 0 && !hear_caller(&callers[i])) drop(i);
    drop_silent();
    if (polled[1].revents != 0) let_in(listener);
  }
}

#endif
