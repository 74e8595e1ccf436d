/*
 * The holder: keeps the namespaces and both sockets, and presents the sockets to the gateway's relay.
 *
 * stdin, a line each:  present N TICKET   (again with another ticket for another gateway)
 * stdout:              ready | presented N | refused N WHY | away N WHY (no gateway there; it goes on trying)
 *
 * Promises: ends when stdin does, and with it its sockets (S5); until then what the sandbox sends waits in the
 * listener's queue while a gateway is away; the relay's end is followed by the same ticket again, unasked.
 */
#ifndef SCRIPTORIUM_NETPREP_HOLD_H
#define SCRIPTORIUM_NETPREP_HOLD_H

#include "netprep-namespace.h"
#include <poll.h>
#include <sys/un.h>

#define CAPTURE_SOCKET "capture.sock"
enum { MAX_TICKET = 256, MAX_ANSWER = 64, FIRST_RETRY_MS = 20, LAST_RETRY_MS = 1000, ANSWER_MS = 15000 };

struct holder {
  struct capture sockets;
  unsigned long number; /* of the order to present */
  char ticket[MAX_TICKET + 1];
  int connection;   /* -1: none */
  int is_presented; /* the relay has said so on this connection */
  int is_said;      /* whoever asked has had an answer to this ticket */
  int is_away;      /* or at least knows that it takes time */
  int is_waiting;   /* to try again */
  int pause_ms;     /* before that; grows until it was presented */
};

static int is_ticket(const char *text, size_t size) {
  if (size < 1 || size > MAX_TICKET) return 0;
  for (size_t i = 0; i < size; i++)
    if (text[i] <= ' ' || text[i] > '~') return 0;
  return 1;
}

static void report(struct holder *h, const char *what, const char *why) {
  if (h->is_said) return;
  h->is_said = 1;
  dprintf(1, "%s %lu%s%s\n", what, h->number, *why ? " " : "", why);
}

static void hang_up(struct holder *h) {
  if (h->connection >= 0) close(h->connection);
  h->connection = -1;
  h->is_presented = 0;
}

static void try_later(struct holder *h) {
  hang_up(h);
  h->is_waiting = 1;
  h->pause_ms = h->pause_ms == 0 ? FIRST_RETRY_MS : 2 * h->pause_ms;
  if (h->pause_ms > LAST_RETRY_MS) h->pause_ms = LAST_RETRY_MS;
}

static int send_sockets(int to, const struct holder *h) {
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(2 * sizeof(int))];
  } control = {0};
  struct iovec text = {(void *)h->ticket, strlen(h->ticket)};
  struct msghdr message = {.msg_iov = &text, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(2 * sizeof(int));
  memcpy(CMSG_DATA(rights), (int[]){h->sockets.tcp, h->sockets.udp}, 2 * sizeof(int));
  return sendmsg(to, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/* The relay may be busy or not there yet; either way it is tried again. */
static void try_present(struct holder *h) {
  struct sockaddr_un there = {AF_UNIX, CAPTURE_SOCKET};
  hang_up(h);
  h->is_waiting = 0;
  int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (s < 0 || connect(s, (struct sockaddr *)&there, sizeof there) < 0 || send_sockets(s, h) < 0) {
    if (!h->is_away && !h->is_said) dprintf(1, "away %lu %s\n", h->number, strerror(errno));
    h->is_away = 1;
    if (s >= 0) close(s);
    try_later(h);
    return;
  }
  h->connection = s;
}

static void hear_relay(struct holder *h) {
  char answer[MAX_ANSWER + 1];
  ssize_t size = recv(h->connection, answer, MAX_ANSWER, MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (size <= 0) {
    try_later(h);
    return;
  }
  answer[size] = 0;
  if (strcmp(answer, "ok") == 0) {
    h->is_presented = 1;
    h->pause_ms = 0;
    report(h, "presented", "");
    return;
  }
  /* A ticket that is no good stays so: the next one comes from whoever asked. */
  hang_up(h);
  h->is_said = 0;
  report(h, "refused", strncmp(answer, "no ", 3) == 0 ? answer + 3 : "");
}

static void obey(struct holder *h, const char *line) {
  char *ticket = NULL;
  unsigned long number = strncmp(line, "present ", 8) == 0 ? strtoul(line + 8, &ticket, 10) : 0;
  if (ticket == NULL || *ticket++ != ' ' || !is_ticket(ticket, strlen(ticket))) {
    dprintf(1, "refused %lu a ticket is 1 to %d printable characters\n", number, MAX_TICKET);
    return;
  }
  strcpy(h->ticket, ticket);
  h->number = number;
  h->is_said = h->is_away = 0;
  h->pause_ms = 0;
  try_present(h);
}

/* Returns 0 when whoever holds us is gone. */
static int hear_owner(struct holder *h) {
  static char line[MAX_TICKET + 64];
  static size_t used;
  ssize_t size = read(0, line + used, sizeof line - 1 - used);
  if (size < 0 && errno == EINTR) return 1;
  if (size <= 0) return 0;
  used += (size_t)size;
  for (char *end; (end = memchr(line, '\n', used)) != NULL;) {
    *end++ = 0;
    obey(h, line);
    used -= (size_t)(end - line);
    memmove(line, end, used);
  }
  return used < sizeof line - 1;
}

static int hold(int folder, const char *nft) {
  static struct holder h = {.connection = -1};
  prctl(PR_SET_NAME, "netprep");
  h.sockets = make_capture(nft);
  /* A descriptor, not a path: its parents need not be open to this uid. */
  if (fchdir(folder) < 0) fail("cannot enter the gateway's folder");
  close(folder);
  dprintf(1, "ready\n");
  for (;;) {
    struct pollfd polled[2] = {{0, POLLIN, 0}, {h.connection, POLLIN, 0}};
    int waits_for_answer = h.connection >= 0 && !h.is_presented;
    int count = poll(polled, 2, waits_for_answer ? ANSWER_MS : h.is_waiting ? h.pause_ms : -1);
    if (count < 0 && errno != EINTR) return 1;
    if (count == 0) try_present(&h);
    if (count <= 0) continue;
    if (polled[1].revents != 0) hear_relay(&h);
    if (polled[0].revents != 0 && !hear_owner(&h)) return 0;
  }
}

#endif
