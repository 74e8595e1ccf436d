/*
 * Tries one thing with the captured network per line and prints NAME=ERRNO, or NAME=done when it was not refused. Run
 * inside a sandbox with a gateway by `scriptorium attack` and test/escapes/network.test.ts; attack/rows/namespace.ts
 * knows what each must answer.
 *
 *   network-probe HOST_PORT     everything
 *   network-probe spoof         sends the name server a query from an address of somebody else
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void said(const char *name, long result) {
  const char *why = result >= 0 ? "done" : strerrorname_np(errno);
  printf("%s=%s\n", name, why == NULL ? "unknown" : why);
  fflush(stdout);
}
#define TRY(name, call) (errno = 0, said(name, (long)(call)))

static struct sockaddr_in at(const char *host, int port) {
  struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  inet_pton(AF_INET, host, &place.sin_addr);
  return place;
}

static int tcp_to(const char *host, int port) {
  struct sockaddr_in there = at(host, port);
  return connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&there, sizeof there);
}

static int udp_to(int protocol, const char *host, int port) {
  struct sockaddr_in there = at(host, port);
  int s = socket(AF_INET, SOCK_DGRAM, protocol), on = 1;
  if (s < 0) return -1;
  setsockopt(s, SOL_SOCKET, SO_BROADCAST, &on, sizeof on);
  return (int)sendto(s, "x", 1, 0, (struct sockaddr *)&there, sizeof there);
}

static int bind_to(int type, const char *host, int port) {
  struct sockaddr_in here = at(host, port);
  int on = 1, s = socket(AF_INET, type, 0);
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  if (bind(s, (struct sockaddr *)&here, sizeof here) < 0) return -1;
  return type == SOCK_STREAM ? listen(s, 1) : 0;
}

static int six(int type, const char *host, int port) {
  struct sockaddr_in6 there = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
  inet_pton(AF_INET6, host, &there.sin6_addr);
  int s = socket(AF_INET6, type, 0);
  if (type == SOCK_STREAM) return connect(s, (struct sockaddr *)&there, sizeof there);
  return (int)sendto(s, "x", 1, 0, (struct sockaddr *)&there, sizeof there);
}

/* An answer to a change by rtnetlink, which the seccomp filter leaves open for those who only look. */
static int netlink(int type, int flags, const void *body, size_t size) {
  struct {
    struct nlmsghdr head;
    char body[64];
  } request = {{(unsigned)NLMSG_LENGTH(size), (unsigned short)type, (unsigned short)(NLM_F_REQUEST | NLM_F_ACK | flags), 1, 0}, {0}};
  struct {
    struct nlmsghdr head;
    struct nlmsgerr error;
    char rest[256];
  } answer;
  memcpy(request.body, body, size);
  int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  if (s < 0 || send(s, &request, request.head.nlmsg_len, 0) < 0 || recv(s, &answer, sizeof answer, 0) < 0) return -1;
  errno = -answer.error.error;
  return errno == 0 ? 0 : -1;
}

static void changes(void) {
  struct ifreq lo = {.ifr_name = "lo"};
  TRY("change.lo-down", ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFFLAGS, &lo));
  struct rtmsg route = {.rtm_family = AF_INET, .rtm_table = RT_TABLE_LOCAL, .rtm_scope = RT_SCOPE_HOST, .rtm_type = RTN_LOCAL};
  TRY("change.route-remove", netlink(RTM_DELROUTE, 0, &route, sizeof route));
  TRY("change.route-add", netlink(RTM_NEWROUTE, NLM_F_CREATE, &route, sizeof route));
  struct rtmsg rule = {.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_type = RTN_UNICAST};
  TRY("change.rule", netlink(RTM_NEWRULE, NLM_F_CREATE, &rule, sizeof rule));
  struct ifinfomsg link = {.ifi_index = 1, .ifi_change = IFF_UP};
  TRY("change.link", netlink(RTM_SETLINK, 0, &link, sizeof link));
  TRY("change.nft", socket(AF_NETLINK, SOCK_RAW, 12));
  TRY("change.xfrm", socket(AF_NETLINK, SOCK_RAW, 6));
  int s = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  TRY("change.transparent", setsockopt(s, IPPROTO_IP, IP_TRANSPARENT, &on, sizeof on));
  TRY("change.mark", setsockopt(s, SOL_SOCKET, SO_MARK, &on, sizeof on));
  TRY("change.sysctl", open("/proc/sys/net/ipv4/ip_unprivileged_port_start", O_WRONLY));
  TRY("change.forwarding", open("/proc/sys/net/ipv4/ip_forward", O_WRONLY));
}

static void ways(int host_port) {
  TRY("tcp.any", tcp_to("1.2.3.4", 5678));
  TRY("tcp.metadata", tcp_to("169.254.169.254", 80));
  TRY("tcp.host-loopback", tcp_to("127.0.0.1", host_port));
  TRY("tcp.listener", tcp_to("127.0.0.1", 15001));
  TRY("tcp.listener-2", tcp_to("127.0.0.2", 15001));
  TRY("udp.dns-elsewhere", udp_to(0, "8.8.8.8", 53));
  TRY("udp.quic", udp_to(0, "1.2.3.4", 443));
  TRY("udp.multicast", udp_to(0, "224.0.0.251", 5353));
  TRY("udp.broadcast", udp_to(0, "255.255.255.255", 67));
  TRY("udp.lite", udp_to(136, "8.8.8.8", 53));
  TRY("six.tcp", six(SOCK_STREAM, "2606:4700:4700::1111", 443));
  TRY("six.udp", six(SOCK_DGRAM, "2606:4700:4700::1111", 53));
  TRY("six.link-local", six(SOCK_STREAM, "fe80::1", 80));
  TRY("six.mapped", six(SOCK_STREAM, "::ffff:1.2.3.4", 5678));
  TRY("raw.icmp", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
  TRY("raw.ping", socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
  TRY("raw.tcp", socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
  TRY("raw.packet", socket(AF_PACKET, SOCK_RAW, 0));
  TRY("take.listener", bind_to(SOCK_STREAM, "127.0.0.1", 15001));
  TRY("take.listener-any", bind_to(SOCK_STREAM, "0.0.0.0", 15001));
  TRY("take.name-server", bind_to(SOCK_DGRAM, "127.0.0.1", 53));
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  if (strcmp(argv[1], "spoof") == 0) {
    struct sockaddr_in from = at("8.8.4.4", 40000), to = at("127.0.0.1", 53);
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    TRY("spoof.bind", bind(s, (struct sockaddr *)&from, sizeof from));
    TRY("spoof.send", sendto(s, "spoofed", 7, 0, (struct sockaddr *)&to, sizeof to));
    struct pollfd answer = {s, POLLIN, 0};
    printf("spoof.answers=%d\n", poll(&answer, 1, 500));
    return 0;
  }
  ways(atoi(argv[1]));
  changes();
  return 0;
}
