/*
 * The namespace itself: lo, one route that makes every address local (AnyIP), and the rules that hand TCP to the
 * listener with its destination kept (TPROXY). Needs no privilege but that of making user namespaces.
 *
 * No mark, no second table and no connection tracking: every address is local already, so a packet of a captured
 * connection finds its socket by itself, and only what has no socket yet needs the rule.
 */
#ifndef SCRIPTORIUM_NETPREP_NAMESPACE_H
#define SCRIPTORIUM_NETPREP_NAMESPACE_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CAPTURE_PORT = 15001, DNS_PORT = 53 };

/*
 * 127/8 and ::1 stay the sandbox's own. The listener's own address is refused: what arrives there would have no
 * original destination. All else that is not IPv4 TCP is dropped, which its sender sees at once (EPERM).
 */
static const char rules[] = "table inet capture {\n"
                            " chain output { type filter hook output priority 0; policy drop;\n"
                            "  ip daddr 127.0.0.0/8 tcp dport 15001 reject with tcp reset\n"
                            "  ip daddr 127.0.0.0/8 accept\n"
                            "  ip6 daddr ::1 accept\n"
                            "  meta nfproto ipv4 meta l4proto tcp accept\n"
                            " }\n"
                            " chain prerouting { type filter hook prerouting priority -150; policy accept;\n"
                            "  ip daddr != 127.0.0.0/8 meta l4proto tcp tproxy ip to 127.0.0.1:15001 accept\n"
                            " }\n"
                            "}\n";

struct capture {
  int tcp, udp;
};

static _Noreturn void fail(const char *what) {
  dprintf(2, "netprep: %s: %s\n", what, strerror(errno));
  _exit(125);
}

static void write_file(const char *file, const char *text) {
  int fd = open(file, O_WRONLY | O_CLOEXEC);
  ssize_t size = (ssize_t)strlen(text);
  if (fd < 0 || write(fd, text, (size_t)size) != size) fail(file);
  close(fd);
}

/* The one uid maps to itself: as nobody special, a program started here has only the capabilities handed to it. */
static void enter_namespaces(void) {
  char uids[64], gids[64];
  snprintf(uids, sizeof uids, "%u %u 1\n", getuid(), getuid());
  snprintf(gids, sizeof gids, "%u %u 1\n", getgid(), getgid());
  if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) fail("cannot make a user and a network namespace");
  write_file("/proc/self/setgroups", "deny");
  write_file("/proc/self/uid_map", uids);
  write_file("/proc/self/gid_map", gids);
}

static void raise_lo(void) {
  int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct ifreq lo = {.ifr_name = "lo"};
  if (s < 0 || ioctl(s, SIOCGIFFLAGS, &lo) < 0) fail("cannot look at lo");
  lo.ifr_flags |= IFF_UP;
  if (ioctl(s, SIOCSIFFLAGS, &lo) < 0) fail("cannot bring lo up");
  close(s);
}

static void add_attribute(struct nlmsghdr *head, unsigned short type, const void *value, unsigned short size) {
  struct rtattr *attribute = (struct rtattr *)((char *)head + NLMSG_ALIGN(head->nlmsg_len));
  attribute->rta_type = type;
  attribute->rta_len = (unsigned short)RTA_LENGTH(size);
  memcpy(RTA_DATA(attribute), value, size);
  head->nlmsg_len = NLMSG_ALIGN(head->nlmsg_len) + RTA_ALIGN(attribute->rta_len);
}

/* local default dev lo src 127.0.0.1: every address is ours, and answers go to an address that is not captured. */
static void add_route(void) {
  struct {
    struct nlmsghdr head;
    struct rtmsg route;
    char attributes[64];
  } request = {
      .head = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)),
               .nlmsg_type = RTM_NEWROUTE,
               .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK,
               .nlmsg_seq = 1},
      .route = {.rtm_family = AF_INET,
                .rtm_table = RT_TABLE_LOCAL,
                .rtm_protocol = RTPROT_BOOT,
                .rtm_scope = RT_SCOPE_HOST,
                .rtm_type = RTN_LOCAL},
  };
  int lo = (int)if_nametoindex("lo");
  struct in_addr self = {htonl(INADDR_LOOPBACK)};
  add_attribute(&request.head, RTA_OIF, &lo, sizeof lo);
  add_attribute(&request.head, RTA_PREFSRC, &self, sizeof self);
  struct {
    struct nlmsghdr head;
    struct nlmsgerr error;
    char rest[512];
  } answer;
  int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (s < 0 || send(s, &request, request.head.nlmsg_len, 0) < 0) fail("cannot ask for the route");
  if (recv(s, &answer, sizeof answer, 0) < (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr))) fail("no answer about the route");
  errno = -answer.error.error;
  if (answer.head.nlmsg_type != NLMSG_ERROR || answer.error.error != 0) fail("cannot add the route");
  close(s);
}

static void set_capabilities(unsigned effective, unsigned inheritable) {
  struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{effective, effective, inheritable}, {0, 0, 0}};
  if (syscall(SYS_capset, &head, data) < 0) fail("cannot set capabilities");
}

/* nft itself: its wire format is the one thing here that is not ours to write by hand. */
static void load_rules(const char *nft) {
  int text = memfd_create("rules", MFD_CLOEXEC);
  if (text < 0 || write(text, rules, sizeof rules - 1) != (ssize_t)sizeof rules - 1 || lseek(text, 0, SEEK_SET) != 0)
    fail("cannot write the rules");
  pid_t child = fork();
  if (child < 0) fail("cannot fork");
  if (child == 0) {
    char *arguments[] = {(char *)nft, "-f", "-", NULL}, *nothing[] = {NULL};
    set_capabilities(1u << CAP_NET_ADMIN, 1u << CAP_NET_ADMIN);
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0) < 0) fail("cannot hand a capability on");
    if (dup2(text, 0) < 0 || dup2(2, 1) < 0) fail("cannot place the rules");
    execve(nft, arguments, nothing);
    fail(nft);
  }
  int status;
  if (waitpid(child, &status, 0) != child) fail("cannot wait for nft");
  errno = ENOTSUP;
  if (status != 0) fail("nft does not take the capture rules (the kernel needs nf_tables and nft_tproxy)");
  close(text);
}

static int bound(int type, int port, int transparent) {
  int s = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
  struct sockaddr_in self = {AF_INET, htons((uint16_t)port), {htonl(INADDR_LOOPBACK)}, {0}};
  if (s < 0) fail("no socket");
  if (transparent && setsockopt(s, IPPROTO_IP, IP_TRANSPARENT, &on, sizeof on) < 0) fail("no IP_TRANSPARENT");
  if (bind(s, (struct sockaddr *)&self, sizeof self) < 0) fail("cannot bind");
  return s;
}

/* Makes it all in this process, which afterwards has no capability left. */
static struct capture make_capture(const char *nft) {
  enter_namespaces();
  raise_lo();
  add_route();
  load_rules(nft);
  struct capture made = {bound(SOCK_STREAM, CAPTURE_PORT, 1), bound(SOCK_DGRAM, DNS_PORT, 0)};
  if (listen(made.tcp, 511) < 0) fail("cannot listen");
  set_capabilities(0, 0);
  return made;
}

/* A connection to an address of nobody must arrive here with that address. Documentation addresses are nobody's. */
static int probe(const char *nft) {
  struct capture made = make_capture(nft);
  struct sockaddr_in wanted = {AF_INET, htons(5678), {htonl(0xc0000201)}, {0}}, found;
  socklen_t size = sizeof found;
  int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (client < 0 || connect(client, (struct sockaddr *)&wanted, sizeof wanted) < 0) fail("a captured connection fails");
  int arrived = accept(made.tcp, NULL, NULL);
  if (arrived < 0 || getsockname(arrived, (struct sockaddr *)&found, &size) < 0) fail("a captured connection does not arrive");
  errno = EADDRNOTAVAIL;
  if (found.sin_addr.s_addr != wanted.sin_addr.s_addr || found.sin_port != wanted.sin_port)
    fail("a captured connection loses its destination");
  dprintf(1, "captured\n");
  return 0;
}

#endif
