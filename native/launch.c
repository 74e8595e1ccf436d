/*
 * The launcher: what the host starts for each sandbox, and which then becomes bwrap (or the guest itself).
 *
 *   launch [--mounts FILE] [--cgroup FILE]… [--rlimit NAME=VALUE]…
 *          [--stage DIR (--bind|--ro-bind|--own-bind FROM NAME)…] [--uid N] [--owner N]
 *          [--supervisor N] [--die-with-parent] [--seccomp FD] [--filter gvisor|gvisor-root] [--folder FD DIR]
 *          [--join-of PID UID] [--keep FD]… -- PROGRAM ARGUMENT…
 *                               --mounts enters the mount namespace FILE, where disks are mounted; --own-bind shows
 *                               what --owner has on disk as owned by --uid; --folder opens DIR at FD before the uid changes; --join-of enters the namespaces of a process of that user
 *                               a file of (a user namespace only without --uid); --supervisor makes a user namespace of
 *                               that uid and --uid (launch-users.h); --filter installs what --seccomp hands to bwrap
 *   launch --confined PROGRAM ARGUMENT…   the host itself: as root, but without the rights to look into other processes or to change
 *                               the kernel, for good; environment and descriptors stay
 *   launch --hold-lock FILE [DIR PREFIX]…    locks FILE, says "locked", holds it until stdin ends (Node has no flock),
 *                               then removes the cgroups PREFIX* of each DIR
 *   launch --remove DIR         removes a session's disk (launch-remove.h)
 *   launch --probe-seccomp      installs the filter on itself and tries it
 *
 * Promises: what is started has an empty environment (S1), no descriptor but 0-2 and the kept ones, no way to gain
 * privileges, and is inside its cgroups before its first instruction. Whatever cannot be done ends the launch (S4).
 */
#define _GNU_SOURCE
#include "launch-seccomp.h"
#include "launch-stage.h"
#include "launch-remove.h"
#include "launch-users.h"
#include <fcntl.h>
#include <linux/capability.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum { MAX_FD = 1024 };
static char kept[MAX_FD];

static long number_of(const char *text) {
  char *end;
  errno = EINVAL;
  long value = strtol(text, &end, 10);
  if (*text == 0 || *end != 0 || value < 0) refuse("not a number", text);
  return value;
}

static int keep(const char *text) {
  long fd = number_of(text);
  if (fd >= MAX_FD) refuse("no such descriptor", text);
  kept[fd] = 1;
  return (int)fd;
}

static void join_cgroup(const char *file) {
  int fd = open(file, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, "0\n", 2) != 2) refuse("cannot join", file);
  close(fd);
}

static void set_limit(char *argument) {
  static const struct {
    const char *name;
    int resource;
  } names[] = {{"nofile", RLIMIT_NOFILE}, {"fsize", RLIMIT_FSIZE}, {"core", RLIMIT_CORE},
               {"nproc", RLIMIT_NPROC},   {"data", RLIMIT_DATA},   {"memlock", RLIMIT_MEMLOCK}};
  char *value = strchr(argument, '=');
  errno = EINVAL;
  if (value == NULL) refuse("not NAME=VALUE", argument);
  *value++ = 0;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (strcmp(names[i].name, argument) != 0) continue;
    struct rlimit now;
    if (getrlimit(names[i].resource, &now) < 0) refuse("cannot read limit", argument);
    rlim_t wanted = (rlim_t)number_of(value);
    /* A limit that is already tighter stays: raising it may not be ours to do. */
    if (now.rlim_max < wanted) wanted = now.rlim_max;
    struct rlimit then = {wanted, wanted};
    if (setrlimit(names[i].resource, &then) < 0) refuse("cannot set limit", argument);
    return;
  }
  refuse("unknown limit", argument);
}

static void provide_filter(int at) {
  struct program p;
  build_filter(&p, ON_LINUX);
  int fd = memfd_create("seccomp", 0);
  size_t size = p.length * sizeof *p.steps;
  if (fd < 0 || write(fd, p.steps, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET) != 0)
    refuse("cannot write", "the seccomp filter");
  if (fd != at && (dup2(fd, at) < 0 || close(fd) < 0)) refuse("cannot place", "the seccomp filter");
}

/* O_PATH: enough to enter it, and no more than its own mode bits allow whoever holds it. */
static void place_folder(int at, const char *folder) {
  int fd = open(folder, O_PATH | O_DIRECTORY);
  if (fd < 0) refuse("cannot open", folder);
  if (fd != at && (dup2(fd, at) < 0 || close(fd) < 0)) refuse("cannot place", folder);
}

/*
 * The namespaces of a holder, looked up as its own user: the host has no right to look into processes of others, for one
 * of them is the gateway (S1). Root joins the network alone; anybody else needs the rights that only the user namespace gives.
 */
static void join_of(const char *holder, const char *user) {
  static const char *const kinds[] = {"user", "net"};
  int opened[2], is_root = geteuid() == 0, first = is_root ? 1 : 0;
  uid_t uid = (uid_t)number_of(user);
  if (is_root && (setegid(uid) < 0 || seteuid(uid) < 0)) refuse("cannot look as", user);
  for (int i = first; i < 2; i++) {
    char file[64];
    snprintf(file, sizeof file, "/proc/%ld/ns/%s", number_of(holder), kinds[i]);
    opened[i] = open(file, O_RDONLY | O_CLOEXEC);
    if (opened[i] < 0) refuse("cannot look up the namespaces of", holder);
  }
  if (is_root && (seteuid(0) < 0 || setegid(0) < 0)) refuse("cannot be root again after", user);
  for (int i = first; i < 2; i++) {
    if (setns(opened[i], 0) < 0) refuse("cannot join the namespaces of", holder);
    close(opened[i]);
  }
}

static void join_mounts(const char *file) {
  int fd = open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNS) < 0) refuse("cannot enter the mounts of", file);
  close(fd);
}

static void become(long uid) {
  if (setgroups(0, NULL) < 0) refuse("cannot drop", "groups");
  if (setresgid((gid_t)uid, (gid_t)uid, (gid_t)uid) < 0) refuse("cannot change", "gid");
  if (setresuid((uid_t)uid, (uid_t)uid, (uid_t)uid) < 0) refuse("cannot change", "uid");
}

static void close_others(void) {
  for (int fd = 3; fd < MAX_FD; fd++)
    if (!kept[fd]) close(fd);
  syscall(SYS_close_range, MAX_FD, ~0u, 0);
}

/* Ends and removes the groups in `folder` whose names begin with `prefix`. Returns whether none is left. */
static int remove_groups(const char *folder, const char *prefix) {
  DIR *dir = opendir(folder);
  int clean = 1;
  if (dir == NULL) return 1;
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0) continue;
    if (unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR) == 0) continue;
    clean = 0;
    char file[512];
    snprintf(file, sizeof file, "%s/cgroup.kill", entry->d_name);
    int fd = openat(dirfd(dir), file, O_WRONLY | O_CLOEXEC);
    if (fd < 0) continue;
    if (write(fd, "1", 1) < 0) clean = 0;
    close(fd);
  }
  closedir(dir);
  return clean;
}

/*
 * Outlives a killed host by a moment: its sandboxes die with its sockets, and what no process death removes, their
 * cgroups, is removed here. The lock is let go of after that, so the next host finds a clean machine (S5).
 */
static int hold_lock(int argc, char **argv) {
  const char *file = argv[2];
  int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) refuse("cannot open", file);
  if (flock(fd, LOCK_EX | LOCK_NB) < 0) return errno == EWOULDBLOCK ? 75 : 125;
  if (write(1, "locked\n", 7) != 7) return 1;
  /* Whoever ends a host by its group or terminal must not end this first. */
  signal(SIGINT, SIG_IGN), signal(SIGTERM, SIG_IGN), signal(SIGHUP, SIG_IGN);
  char ignored[64];
  while (read(0, ignored, sizeof ignored) > 0) {
  }
  for (int attempt = 0, clean = 0; attempt < 250 && !clean; attempt++) {
    clean = 1;
    for (int i = 3; i + 1 < argc; i += 2) clean &= remove_groups(argv[i], argv[i + 1]);
    if (!clean) usleep(10000);
  }
  return 0;
}

static unsigned short install_filter(enum kernel kernel) {
  struct program p;
  build_filter(&p, kernel);
  struct sock_fprog program = {p.length, p.steps};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) refuse("cannot set", "no_new_privs");
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) refuse("cannot install", "the seccomp filter");
  return p.length;
}

static enum kernel kernel_of(const char *name) {
  errno = EINVAL;
  if (strcmp(name, "gvisor") == 0) return ON_GVISOR;
  if (strcmp(name, "gvisor-root") == 0) return ON_GVISOR_AS_ROOT;
  refuse("no such filter", name);
}

/* S1: what reads a hostile guest's words must not be able to read the gateway's memory, even when it is led astray. */
static _Noreturn void become_confined(char **argv) {
  static const int never[] = {CAP_SYS_PTRACE, CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_BOOT, CAP_SYSLOG, CAP_AUDIT_CONTROL,
                              CAP_MAC_ADMIN, CAP_MAC_OVERRIDE, 38 /* PERFMON */, 39 /* BPF */, 40 /* CHECKPOINT_RESTORE */};
  /* Of those that the kernel knows; what cannot be given up would be believed to be gone (S4). */
  for (size_t i = 0; i < sizeof never / sizeof *never && geteuid() == 0; i++)
    if (prctl(PR_CAPBSET_READ, never[i], 0, 0, 0) == 1 && prctl(PR_CAPBSET_DROP, never[i], 0, 0, 0) < 0)
      refuse("cannot give up", "a capability");
  execv(argv[0], argv);
  refuse("cannot start", argv[0]);
}

static int probe_seccomp(void) {
  unsigned short length = install_filter(ON_LINUX);
  if (socket(40 /* AF_VSOCK */, SOCK_STREAM, 0) >= 0 || errno != EAFNOSUPPORT) return 1;
  if (syscall(SYS_bpf, 0, NULL, 0) >= 0 || errno != EPERM) return 1;
  dprintf(1, "%u steps\n", length);
  return 0;
}

struct plan {
  struct bind binds[MAX_BINDS];
  int bind_count;
  const char *stage;
  long uid, owner, supervisor;
  int dies_with_parent;
  enum kernel filter; /* ON_LINUX: none is installed here, bwrap does it */
};

static int takes(char **argv, int at, const char *name, int values, int argc) {
  if (strcmp(argv[at], name) != 0) return 0;
  errno = EINVAL;
  if (at + values >= argc) refuse("missing value of", name);
  return 1;
}

/* Returns where the program to start begins. */
static int read_arguments(int argc, char **argv, struct plan *plan) {
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--") == 0) return i + 1;
    if (takes(argv, i, "--cgroup", 1, argc)) join_cgroup(argv[++i]);
    else if (takes(argv, i, "--rlimit", 1, argc)) set_limit(argv[++i]);
    else if (takes(argv, i, "--stage", 1, argc)) plan->stage = argv[++i];
    else if (takes(argv, i, "--uid", 1, argc)) plan->uid = number_of(argv[++i]);
    else if (takes(argv, i, "--supervisor", 1, argc)) plan->supervisor = number_of(argv[++i]);
    else if (takes(argv, i, "--die-with-parent", 0, argc)) plan->dies_with_parent = 1;
    else if (takes(argv, i, "--filter", 1, argc)) plan->filter = kernel_of(argv[++i]);
    else if (takes(argv, i, "--owner", 1, argc)) plan->owner = number_of(argv[++i]);
    else if (takes(argv, i, "--mounts", 1, argc)) join_mounts(argv[++i]);
    else if (takes(argv, i, "--keep", 1, argc)) keep(argv[++i]);
    else if (takes(argv, i, "--join-of", 2, argc)) join_of(argv[i + 1], argv[i + 2]), i += 2;
    else if (takes(argv, i, "--folder", 2, argc)) place_folder(keep(argv[i + 1]), argv[i + 2]), i += 2;
    else if (takes(argv, i, "--seccomp", 1, argc)) provide_filter(keep(argv[++i]));
    else if (takes(argv, i, "--bind", 2, argc) || takes(argv, i, "--ro-bind", 2, argc) ||
             takes(argv, i, "--own-bind", 2, argc)) {
      errno = E2BIG;
      if (plan->bind_count == MAX_BINDS) refuse("too many", argv[i]);
      int read_only = argv[i][2] == 'r', is_own = argv[i][2] == 'o';
      plan->binds[plan->bind_count++] = (struct bind){argv[i + 1], argv[i + 2], read_only, is_own, -1};
      i += 2;
    } else {
      errno = EINVAL;
      refuse("unknown option", argv[i]);
    }
  }
  return argc;
}

int main(int argc, char **argv) {
  if (argc >= 3 && strcmp(argv[1], "--confined") == 0) become_confined(argv + 2);
  if (argc >= 3 && strcmp(argv[1], "--hold-lock") == 0) return hold_lock(argc, argv);
  if (argc == 3 && strcmp(argv[1], "--remove") == 0) return remove_tree(argv[2]);
  if (argc == 2 && strcmp(argv[1], "--probe-seccomp") == 0) return probe_seccomp();
  static struct plan plan = {.uid = -1, .owner = -1, .supervisor = -1};
  pid_t parent = getppid();
  int program = read_arguments(argc, argv, &plan);
  errno = EINVAL;
  if (program >= argc) refuse("nothing to", "start");
  if (plan.stage != NULL) {
    int is_foreign = plan.owner >= 0 && plan.uid >= 0 && plan.owner != plan.uid;
    int mapping = is_foreign ? mapped_namespace(plan.owner, plan.uid, plan.supervisor) : -1;
    make_stage(plan.stage, plan.binds, plan.bind_count, mapping);
    if (mapping >= 0) close(mapping);
  }
  /* A program of ours may lie below a folder that the new uid cannot enter. */
  int opened = open(argv[program], O_PATH | O_CLOEXEC);
  if (plan.supervisor >= 0) become_supervisor(plan.supervisor, plan.uid);
  else if (plan.uid >= 0) become(plan.uid);
  /* After the last change of user, which would undo it. */
  if (plan.dies_with_parent && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)) return 125;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) refuse("cannot set", "no_new_privs");
  if (opened >= 0 && opened < MAX_FD) kept[opened] = 1;
  close_others();
  if (plan.filter != ON_LINUX) install_filter(plan.filter);
  char *nothing[] = {NULL};
  execve(argv[program], argv + program, nothing);
  if (errno == EACCES) syscall(SYS_execveat, opened, "", argv + program, nothing, AT_EMPTY_PATH);
  refuse("cannot start", argv[program]);
}
