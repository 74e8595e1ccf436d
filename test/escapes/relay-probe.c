/*
 * What anybody on the machine may say to the gateway's relay, in a folder that it can only pass through. Prints
 * NAME=ANSWER, or NAME=closed. Run by network.test.ts: relay-probe FOLDER GOOD_TICKET
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAX_FDS = 200 };
static const struct sockaddr_un relay = {AF_UNIX, "capture.sock"};

static int dial(void) {
  int s = socket(AF_UNIX, SOCK_SEQPACKET, 0);
  struct timeval patience = {5, 0};
  setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (connect(s, (const struct sockaddr *)&relay, sizeof relay) < 0) perror("connect"), exit(1);
  return s;
}

static void say(int s, const char *text, size_t size, const int *fds, int count) {
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
  } control = {0};
  struct iovec part = {(void *)text, size};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (count > 0) {
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    *rights = (struct cmsghdr){CMSG_LEN((size_t)count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(rights), fds, (size_t)count * sizeof(int));
  }
  sendmsg(s, &message, MSG_NOSIGNAL);
}

static void hear(const char *name, int s) {
  char answer[128];
  ssize_t size = recv(s, answer, sizeof answer - 1, 0);
  if (size < 0) printf("%s=%s\n", name, errno == EAGAIN ? "nothing" : "closed");
  else printf("%s=%.*s\n", name, size == 0 ? 6 : (int)size, size == 0 ? "closed" : answer);
  fflush(stdout);
}

static void once(const char *name, const char *text, size_t size, const int *fds, int count) {
  int s = dial();
  say(s, text, size, fds, count);
  hear(name, s);
  close(s);
}

static int listener(void) {
  int s = socket(AF_INET, SOCK_STREAM, 0);
  listen(s, 1);
  return s;
}

/* The same noise each time. */
static void noise(int rounds) {
  unsigned seed = 7;
  int kinds[4] = {0, 1, socket(AF_INET, SOCK_STREAM, 0), socket(AF_INET, SOCK_DGRAM, 0)};
  for (int i = 0; i < rounds; i++) {
    char text[400];
    int fds[4], s = dial(), count = rand_r(&seed) % 5;
    size_t size = (size_t)rand_r(&seed) % sizeof text;
    for (size_t j = 0; j < size; j++) text[j] = (char)rand_r(&seed);
    for (int j = 0; j < count; j++) fds[j] = kinds[rand_r(&seed) % 4];
    for (int times = rand_r(&seed) % 3; times >= 0; times--) say(s, text, size, fds, count);
    close(s);
  }
}

int main(int argc, char **argv) {
  if (argc != 3 || chdir(argv[1]) < 0) return 2;
  const char *ticket = argv[2];
  size_t size = strlen(ticket);
  char longer[300];
  memset(longer, 'x', sizeof longer);
  int tcp = listener(), udp = socket(AF_INET, SOCK_DGRAM, 0), pipes[2], pair[2], many[MAX_FDS];
  if (pipe(pipes) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) return 2;
  for (int i = 0; i < MAX_FDS; i++) many[i] = i % 2 ? udp : tcp;
  once("empty", "", 0, NULL, 0);
  once("long", longer, sizeof longer, many, 2);
  once("control", "a\nb", 3, many, 2);
  once("nul", "a\0b", 3, many, 2);
  once("no-sockets", ticket, size, NULL, 0);
  once("one-socket", ticket, size, &tcp, 1);
  once("many-sockets", ticket, size, many, MAX_FDS);
  once("pipes", ticket, size, pipes, 2);
  once("unix-sockets", ticket, size, pair, 2);
  once("swapped", ticket, size, (int[]){udp, tcp}, 2);
  once("not-listening", ticket, size, (int[]){socket(AF_INET, SOCK_STREAM, 0), udp}, 2);
  once("six", ticket, size, (int[]){socket(AF_INET6, SOCK_STREAM, 0), udp}, 2);
  once("guessed", "guess\"\\", 7, many, 2);
  noise(2000);
  int silent[300];
  for (int i = 0; i < 300; i++) silent[i] = dial();
  int s = dial();
  say(s, ticket, size, many, 2);
  hear("good", s);
  say(s, ticket, size, many, 2);
  hear("second", s);
  hear("silent", silent[0]);
  return 0;
}
