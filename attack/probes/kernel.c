/*
 * Tries one forbidden thing per line and prints NAME=ERRNO, or NAME=done when it was not refused. Run inside the
 * sandbox by `scriptorium attack` and test/escapes/escapes.test.ts; attack/rows/kernel.ts knows what each must answer.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/route.h>

#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <net/if.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void said(const char *name, long result) {
  const char *why = result >= 0 ? "done" : strerrorname_np(errno);
  printf("%s=%s\n", name, why == NULL ? "unknown" : why);
  fflush(stdout);
}
#define TRY(name, call) (errno = 0, said(name, (long)(call)))

static void write_to(const char *name, const char *path) {
  int fd = open(path, O_WRONLY | O_NONBLOCK);
  if (fd < 0) return said(name, fd);
  TRY(name, write(fd, "1", 1));
  close(fd);
}

static void sockets(void) {
  static const struct {
    const char *name;
    int family, type, protocol;
  } tried[] = {
      {"socket.vsock", 40, SOCK_STREAM, 0},  {"socket.packet", AF_PACKET, SOCK_RAW, 0},
      {"socket.alg", 38, SOCK_SEQPACKET, 0}, {"socket.bluetooth", 31, SOCK_RAW, 0},
      {"socket.can", 29, SOCK_RAW, 1},       {"socket.tipc", 30, SOCK_STREAM, 0},
      {"socket.xdp", 44, SOCK_RAW, 0},       {"socket.key", 15, SOCK_RAW, 2},
      {"socket.netfilter", AF_NETLINK, SOCK_RAW, 12}, {"socket.audit", AF_NETLINK, SOCK_RAW, 9},
      {"socket.raw", AF_INET, SOCK_RAW, IPPROTO_ICMP}, {"socket.raw6", AF_INET6, SOCK_RAW, IPPROTO_TCP},
      {"socket.inet", AF_INET, SOCK_STREAM, 0}, {"socket.route", AF_NETLINK, SOCK_RAW, 0},
      {"socket.unix", AF_UNIX, SOCK_STREAM, 0},
  };
  for (size_t i = 0; i < sizeof tried / sizeof *tried; i++)
    TRY(tried[i].name, socket(tried[i].family, tried[i].type, tried[i].protocol));
  int pair[2];
  TRY("socketpair.tipc", socketpair(30, SOCK_STREAM, 0, pair));
}

static void network(const char *port, const char *abstract_name) {
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  struct ifreq lo = {.ifr_name = "lo"};
  lo.ifr_flags = 0;
  TRY("lo.down", ioctl(s, SIOCSIFFLAGS, &lo));
  struct rtentry route = {0};
  struct sockaddr_in zero = {.sin_family = AF_INET};
  memcpy(&route.rt_dst, &zero, sizeof zero);
  memcpy(&route.rt_genmask, &zero, sizeof zero);
  route.rt_dev = (char *)"lo";
  TRY("route.add", ioctl(s, SIOCADDRT, &route));
  struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  inet_pton(AF_INET, "127.0.0.1", &there.sin_addr);
  TRY("connect.host-loopback", connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&there, sizeof there));
  there.sin_port = htons(80);
  inet_pton(AF_INET, "169.254.169.254", &there.sin_addr);
  TRY("connect.metadata", connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&there, sizeof there));
  inet_pton(AF_INET, "1.1.1.1", &there.sin_addr);
  TRY("connect.internet", connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&there, sizeof there));
  there.sin_port = htons(53);
  TRY("send.udp", sendto(socket(AF_INET, SOCK_DGRAM, 0), "x", 1, 0, (struct sockaddr *)&there, sizeof there));
  struct sockaddr_un hidden = {.sun_family = AF_UNIX};
  memcpy(hidden.sun_path + 1, abstract_name, strlen(abstract_name));
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(abstract_name));
  TRY("connect.host-abstract", connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&hidden, size));
}

static int nothing(void *argument) {
  (void)argument;
  return 0;
}

static void kernel(void) {
  static char stack[1 << 16];
  struct iovec here = {stack, 16}, there = {(void *)0x400000, 16};
  TRY("mount.tmpfs", mount("x", "/tmp", "tmpfs", 0, ""));
  TRY("mount.bind", mount("/usr", "/workspace", NULL, MS_BIND, NULL));
  TRY("remount.root", mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
  TRY("umount", umount2("/workspace", MNT_DETACH));
  TRY("pivot_root", syscall(SYS_pivot_root, ".", "."));
  TRY("chroot", chroot("/workspace"));
  TRY("open_tree", syscall(428, AT_FDCWD, "/", 1));
  TRY("move_mount", syscall(429, -1, "", -1, "", 0));
  TRY("fsopen", syscall(430, "tmpfs", 0));
  TRY("mount_setattr", syscall(442, -1, "", 0, NULL, 0));
  TRY("mknod.block", mknod("/workspace/sda", S_IFBLK | 0600, makedev(254, 0)));
  TRY("mknod.char", mknod("/workspace/mem", S_IFCHR | 0600, makedev(1, 1)));
  TRY("unshare.user", unshare(CLONE_NEWUSER));
  TRY("unshare.mount", unshare(CLONE_NEWNS));
  TRY("unshare.net", unshare(CLONE_NEWNET));
  TRY("unshare.time", unshare(0x80));
  TRY("clone.user", clone(nothing, stack + sizeof stack, CLONE_NEWUSER | SIGCHLD, NULL));
  TRY("clone.pid", clone(nothing, stack + sizeof stack, CLONE_NEWPID | SIGCHLD, NULL));
  TRY("clone3", syscall(435, NULL, 0));
  TRY("setns", syscall(SYS_setns, open("/proc/self/ns/net", O_RDONLY), 0));
  TRY("ptrace.init", ptrace(PTRACE_ATTACH, 1, NULL, NULL));
  TRY("ptrace.supervisor", ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
  TRY("vm_read.init", process_vm_readv(1, &here, 1, &there, 1, 0));
  TRY("vm_write.supervisor", process_vm_writev(getppid(), &here, 1, &there, 1, 0));
  TRY("pidfd_getfd", syscall(438, syscall(434, 1, 0), 3, 0));
  TRY("io_uring_setup", syscall(425, 1, stack));
  TRY("bpf", syscall(SYS_bpf, 0, NULL, 0));
  TRY("userfaultfd", syscall(SYS_userfaultfd, 0));
  TRY("perf_event_open", syscall(SYS_perf_event_open, stack, 0, -1, -1, 0));
  TRY("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, stack, 0));
  TRY("name_to_handle_at", syscall(SYS_name_to_handle_at, AT_FDCWD, "/", stack, stack + 256, 0));
  TRY("fanotify_init", syscall(SYS_fanotify_init, 0, 0));
  TRY("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
  TRY("init_module", syscall(SYS_init_module, stack, 0, ""));
  TRY("finit_module", syscall(SYS_finit_module, -1, "", 0));
  TRY("delete_module", syscall(SYS_delete_module, "x", 0));
  TRY("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -3));
  TRY("request_key", syscall(SYS_request_key, "user", "x", NULL, -3));
  TRY("keyctl", syscall(SYS_keyctl, 0, -3, 1));
  TRY("syslog", syscall(SYS_syslog, 3, stack, 100));
  TRY("swapon", syscall(SYS_swapon, "/workspace/x", 0));
  TRY("reboot", syscall(SYS_reboot, 0xfee1dead, 672274793, 0, NULL));
  TRY("settimeofday", syscall(SYS_settimeofday, NULL, NULL));
  TRY("sethostname", sethostname("x", 1));
  TRY("acct", syscall(SYS_acct, NULL));
  TRY("quotactl", syscall(SYS_quotactl, 0, NULL, 0, NULL));
  TRY("setuid.root", setuid(0));
  TRY("setgroups", syscall(SYS_setgroups, 0, NULL));
  TRY("personality", personality(0x0400000 /* READ_IMPLIES_EXEC */));
  TRY("ioctl.tiocsti", ioctl(0, 0x5412, "x"));
  TRY("ioctl.tiocsti-high", syscall(SYS_ioctl, 0, 0x100005412ul, "x"));
  TRY("ioctl.tioclinux", ioctl(0, 0x541c, "x"));
  TRY("future-call", syscall(1000));
  struct rlimit more = {RLIM_INFINITY, RLIM_INFINITY};
  TRY("rlimit.nofile", setrlimit(RLIMIT_NOFILE, &more));
  TRY("rlimit.core", setrlimit(RLIMIT_CORE, &more));
#if defined(__x86_64__)
  TRY("x32", syscall(0x40000000 + SYS_getpid));
#endif
}

static void places(void) {
  char link[256];
  TRY("init.exe", readlink("/proc/1/exe", link, sizeof link));
  TRY("init.cwd", readlink("/proc/1/cwd", link, sizeof link));
  TRY("init.root", open("/proc/1/root/", O_RDONLY));
  TRY("init.environ", open("/proc/1/environ", O_RDONLY));
  TRY("init.mem", open("/proc/1/mem", O_RDWR));
  TRY("init.maps", open("/proc/1/maps", O_RDONLY));
  TRY("init.fd", open("/proc/1/fd", O_RDONLY));
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd", getppid());
  TRY("supervisor.fd", open(path, O_RDONLY));
  TRY("rpc.fd", write(3, "x", 1));
  write_to("sysrq", "/proc/sysrq-trigger");
  write_to("drop_caches", "/proc/sys/vm/drop_caches");
  write_to("core_pattern", "/proc/sys/kernel/core_pattern");
  write_to("panic", "/proc/sys/kernel/panic");
  write_to("init.oom", "/proc/1/oom_score_adj");
  TRY("kcore", open("/proc/kcore", O_RDONLY));
  TRY("dev.mem", open("/dev/mem", O_RDWR));
  TRY("dev.kmsg", open("/dev/kmsg", O_RDWR));
  TRY("dev.kvm", open("/dev/kvm", O_RDWR));
  TRY("dev.fuse", open("/dev/fuse", O_RDWR));
  TRY("dev.tun", open("/dev/net/tun", O_RDWR));
  TRY("dev.vda", open("/dev/vda", O_RDONLY));
  TRY("create.root", open("/x", O_CREAT | O_WRONLY, 0600));
  TRY("create.dev", open("/dev/x", O_CREAT | O_WRONLY, 0600));
  TRY("create.usr", open("/usr/bin/x", O_CREAT | O_WRONLY, 0600));
  TRY("create.etc", open("/etc/profile", O_CREAT | O_WRONLY, 0600));
  TRY("create.run", open("/run/x", O_CREAT | O_WRONLY, 0600));
  TRY("write.git", open("/usr/bin/git", O_WRONLY));
  TRY("write.certificates", open("/etc/ssl/certs/ca-certificates.crt", O_WRONLY));
  TRY("write.passwd", open("/etc/passwd", O_WRONLY));
  TRY("write.node", open("/opt/scriptorium/bin/node", O_WRONLY));
  TRY("write.guest", open("/opt/scriptorium/guest", O_WRONLY));
  TRY("write.uploads", open("/mnt/session/uploads/x", O_CREAT | O_WRONLY, 0600));
  TRY("rename.workspace", rename("/workspace", "/w"));
  TRY("host.root-home", open("/root", O_RDONLY));
  TRY("host.shadow", open("/etc/shadow", O_RDONLY));
  TRY("host.var", open("/var/lib", O_RDONLY));
  TRY("host.sys", open("/sys", O_RDONLY));
  TRY("host.docker", open("/run/docker.sock", O_RDONLY));
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "int80") == 0) {
#if defined(__x86_64__)
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory"); /* getpid of the 32-bit table */
    printf("done %ld\n", result);
#endif
    return 0;
  }
  if (argc == 2 && strcmp(argv[1], "memory") == 0)
    for (;;) memset(malloc(1 << 20), 1, 1 << 20);
  if (argc == 2 && strcmp(argv[1], "memfd") == 0) {
    static char block[1 << 20];
    for (int fd = memfd_create("x", 0);;)
      if (write(fd, block, sizeof block) < 0) return 1;
  }
  if (argc != 3) return 2;
  kernel();
  places();
  sockets();
  network(argv[1], argv[2]);
  return 0;
}
