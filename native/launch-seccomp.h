/*
 * The seccomp filter of every sandbox, as a classic BPF program written by hand: no library, one table to read.
 *
 * Namespaces do not cover everything (AF_VSOCK and the kernel keyring were both reachable without a filter), and the
 * kernel is shared, so this is an allow-list in the manner of the container runtimes' default profile: what programs
 * need is listed, everything else answers EPERM. A call newer than this table answers ENOSYS, so that libc falls
 * back to an older one. Left out on purpose, beside all of mounting, namespaces, modules, kexec, clocks and swap:
 * - bpf, perf_event_open, userfaultfd, io_uring_*: large kernel attack surface; io_uring also walks around this filter
 * - keyctl, add_key, request_key: the keyring belongs to the uid, not to a namespace
 * - open_by_handle_at, name_to_handle_at, fanotify_*: reach files outside of the mount tree
 * - clone3 answers ENOSYS: its flags are behind a pointer that a filter cannot read; libc then uses clone
 * - pidfd_getfd, kcmp, process_madvise: reach into other processes with no use that an agent's tools have
 * ptrace and process_vm_* stay: debuggers work on one's own processes, and PID 1 is not dumpable.
 */
#ifndef SCRIPTORIUM_LAUNCH_SECCOMP_H
#define SCRIPTORIUM_LAUNCH_SECCOMP_H

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define OWN_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OWN_ARCH AUDIT_ARCH_AARCH64
#else
#error "the seccomp filter knows x86_64 and aarch64"
#endif

/* The highest number this table was checked against; above it is "not implemented", not "not permitted". */
enum { NEWEST_KNOWN = 462 };
enum { MAX_PROGRAM = 1024 };
static const uint32_t NAMESPACE_FLAGS = 0x7e020080; /* CLONE_NEW*, with CLONE_NEWTIME */

#define N(name) SYS_##name
static const uint16_t allowed_calls[] = {
    /* files */
    N(read), N(write), N(readv), N(writev), N(pread64), N(pwrite64), N(preadv), N(pwritev), N(preadv2), N(pwritev2),
    N(openat), N(close), N(close_range), N(lseek), N(fstat), N(newfstatat), N(statx), N(fcntl), N(flock), N(fsync), N(fdatasync),
    N(sync), N(syncfs), N(sync_file_range), N(truncate), N(ftruncate), N(fallocate), N(fadvise64), N(readahead),
    N(copy_file_range), N(sendfile), N(splice), N(tee), N(vmsplice), N(dup), N(dup3), N(pipe2), N(getdents64),
    N(getcwd), N(chdir), N(fchdir), N(mkdirat), N(unlinkat), N(renameat2), N(linkat), N(symlinkat), N(readlinkat),
    N(faccessat), N(faccessat2), N(fchmod), N(fchmodat), N(fchown), N(fchownat), N(utimensat), N(umask), N(mknodat),
    N(statfs), N(fstatfs), N(openat2), N(memfd_create), N(mlock), N(mlock2), N(munlock), N(mlockall), N(munlockall),
    N(setxattr), N(lsetxattr), N(fsetxattr), N(getxattr), N(lgetxattr), N(fgetxattr), N(listxattr), N(llistxattr),
    N(flistxattr), N(removexattr), N(lremovexattr), N(fremovexattr),
    N(inotify_init1), N(inotify_add_watch), N(inotify_rm_watch),
    N(io_setup), N(io_destroy), N(io_getevents), N(io_submit), N(io_cancel), N(io_pgetevents),
    /* waiting */
    N(ppoll), N(pselect6), N(epoll_create1), N(epoll_ctl), N(epoll_pwait), N(eventfd2), N(signalfd4),
    N(timerfd_create), N(timerfd_settime), N(timerfd_gettime),
    N(timer_create), N(timer_settime), N(timer_gettime), N(timer_getoverrun), N(timer_delete),
    N(nanosleep), N(clock_nanosleep), N(clock_gettime), N(clock_getres), N(gettimeofday), N(times),
    N(getitimer), N(setitimer), N(futex), N(set_robust_list), N(get_robust_list), N(restart_syscall),
    N(membarrier), N(rseq), N(sched_yield),
    /* memory */
    N(mmap), N(munmap), N(mremap), N(mprotect), N(madvise), N(msync), N(mincore), N(brk), N(remap_file_pages),
    N(pkey_alloc), N(pkey_free), N(pkey_mprotect), N(get_mempolicy),
    /* processes */
    N(execve), N(execveat), N(exit), N(exit_group), N(wait4), N(waitid), N(kill), N(tkill), N(tgkill),
    N(pidfd_open), N(pidfd_send_signal), N(prctl), N(ptrace), N(process_vm_readv), N(process_vm_writev), N(seccomp),
    N(getpid), N(getppid), N(gettid), N(getpgid), N(setpgid), N(getsid), N(setsid), N(getcpu),
    N(getuid), N(geteuid), N(getgid), N(getegid), N(getresuid), N(getresgid), N(getgroups),
    N(setuid), N(setgid), N(setreuid), N(setregid), N(setresuid), N(setresgid), N(setgroups), N(setfsuid),
    N(setfsgid), N(capget), N(capset), N(set_tid_address), N(getpriority), N(setpriority), N(ioprio_get),
    N(ioprio_set), N(getrlimit), N(setrlimit), N(prlimit64), N(getrusage), N(sysinfo), N(uname), N(getrandom),
    N(sched_setparam), N(sched_getparam), N(sched_setscheduler), N(sched_getscheduler), N(sched_setattr),
    N(sched_getattr), N(sched_get_priority_max), N(sched_get_priority_min), N(sched_rr_get_interval),
    N(sched_setaffinity), N(sched_getaffinity),
    N(rt_sigaction), N(rt_sigprocmask), N(rt_sigpending), N(rt_sigtimedwait), N(rt_sigqueueinfo),
    N(rt_tgsigqueueinfo), N(rt_sigreturn), N(rt_sigsuspend), N(sigaltstack),
    /* talking */
    N(bind), N(listen), N(accept), N(accept4), N(connect), N(getsockname), N(getpeername), N(sendto), N(recvfrom),
    N(sendmsg), N(recvmsg), N(sendmmsg), N(recvmmsg), N(setsockopt), N(getsockopt), N(shutdown),
    N(shmget), N(shmat), N(shmdt), N(shmctl), N(semget), N(semop), N(semctl), N(semtimedop),
    N(msgget), N(msgsnd), N(msgrcv), N(msgctl),
    N(mq_open), N(mq_unlink), N(mq_timedsend), N(mq_timedreceive), N(mq_notify), N(mq_getsetattr),
    /* the kernel's own sandboxing of less trusted helpers */
    444 /* landlock_create_ruleset */, 445, 446, 447 /* memfd_secret */, 449 /* futex_waitv */,
    451 /* cachestat */, 452 /* fchmodat2 */, 453 /* map_shadow_stack */, 454 /* futex_wake */, 455, 456, 462 /* mseal */,
#if defined(__x86_64__)
    /* what older programs use on this architecture only */
    N(open), N(creat), N(stat), N(lstat), N(access), N(dup2), N(pipe), N(getdents), N(mkdir), N(rmdir), N(unlink),
    N(rename), N(renameat), N(link), N(symlink), N(readlink), N(chmod), N(chown), N(lchown), N(utime), N(utimes),
    N(futimesat), N(mknod), N(select), N(poll), N(epoll_create), N(epoll_wait), N(epoll_ctl_old), N(epoll_wait_old),
    N(eventfd), N(signalfd), N(inotify_init), N(alarm), N(pause), N(time), N(fork), N(vfork), N(getpgrp),
    N(arch_prctl), N(epoll_pwait2), 334 /* rseq */,
#else
    N(renameat), N(epoll_pwait2),
#endif
};

struct program {
  struct sock_filter steps[MAX_PROGRAM];
  unsigned short length;
};

static void step(struct program *p, uint16_t code, uint32_t k, uint8_t yes, uint8_t no) {
  if (p->length == MAX_PROGRAM) abort();
  p->steps[p->length++] = (struct sock_filter){code, yes, no, k};
}

static void load(struct program *p, uint32_t offset) { step(p, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0); }
static void answer(struct program *p, uint32_t what) { step(p, BPF_RET | BPF_K, what, 0, 0); }
static void answer_errno(struct program *p, int number) { answer(p, SECCOMP_RET_ERRNO | (uint32_t)number); }
static void load_call(struct program *p) { load(p, offsetof(struct seccomp_data, nr)); }
/* Low half of an argument; both architectures are little endian, and all arguments looked at are 32 bits wide. */
static void load_argument(struct program *p, int i) {
  load(p, (uint32_t)(offsetof(struct seccomp_data, args) + 8 * (size_t)i));
}

/* `if (value == k) answer`; the accumulator stays. */
static void when_equal(struct program *p, uint32_t k, uint32_t what) {
  step(p, BPF_JMP | BPF_JEQ | BPF_K, k, 0, 1);
  answer(p, what);
}

static uint32_t errno_answer(int number) { return SECCOMP_RET_ERRNO | (uint32_t)number; }

static int compare_calls(const void *a, const void *b) { return *(const uint16_t *)a - *(const uint16_t *)b; }

/* Runs of neighbouring numbers become one range each: about a fifth of the steps of a plain list. */
static void allow_table(struct program *p) {
  enum { COUNT = sizeof allowed_calls / sizeof *allowed_calls };
  uint16_t sorted[COUNT];
  for (size_t i = 0; i < COUNT; i++) sorted[i] = allowed_calls[i];
  qsort(sorted, COUNT, sizeof *sorted, compare_calls);
  for (size_t i = 0; i < COUNT;) {
    size_t last = i;
    while (last + 1 < COUNT && sorted[last + 1] <= sorted[last] + 1) last++;
    step(p, BPF_JMP | BPF_JGE | BPF_K, sorted[i], 0, 2);
    step(p, BPF_JMP | BPF_JGT | BPF_K, sorted[last], 1, 0);
    answer(p, SECCOMP_RET_ALLOW);
    i = last + 1;
  }
}

/* Begins a block that only `number` enters; `end_block` closes it. The block must not fall through. */
static unsigned short begin_block(struct program *p, uint32_t number) {
  step(p, BPF_JMP | BPF_JEQ | BPF_K, number, 0, 0);
  return (unsigned short)(p->length - 1);
}
static void end_block(struct program *p, unsigned short start) {
  p->steps[start].jf = (uint8_t)(p->length - start - 1);
}

static void refuse_namespaces(struct program *p, uint32_t number) {
  unsigned short block = begin_block(p, number);
  load_argument(p, 0);
  /* clone keeps the exit signal in its low byte, where CLONE_NEWTIME has its bit for the others */
  uint32_t flags = number == SYS_clone ? NAMESPACE_FLAGS & ~0xffu : NAMESPACE_FLAGS;
  step(p, BPF_JMP | BPF_JSET | BPF_K, flags, 0, 1);
  answer_errno(p, EPERM);
  answer(p, SECCOMP_RET_ALLOW);
  end_block(p, block);
}

static void restrict_sockets(struct program *p) {
  unsigned short block = begin_block(p, SYS_socket);
  load_argument(p, 0);
  when_equal(p, 1 /* AF_UNIX */, SECCOMP_RET_ALLOW);
  when_equal(p, 2 /* AF_INET */, SECCOMP_RET_ALLOW);
  when_equal(p, 10 /* AF_INET6 */, SECCOMP_RET_ALLOW);
  step(p, BPF_JMP | BPF_JEQ | BPF_K, 16 /* AF_NETLINK */, 0, 3);
  load_argument(p, 2);
  when_equal(p, 0 /* NETLINK_ROUTE: libc lists interfaces through it */, SECCOMP_RET_ALLOW);
  answer_errno(p, EAFNOSUPPORT);
  end_block(p, block);
  block = begin_block(p, SYS_socketpair);
  load_argument(p, 0);
  when_equal(p, 1 /* AF_UNIX */, SECCOMP_RET_ALLOW);
  answer_errno(p, EAFNOSUPPORT);
  end_block(p, block);
}

static void restrict_ioctl(struct program *p) {
  unsigned short block = begin_block(p, SYS_ioctl);
  load_argument(p, 1);
  when_equal(p, 0x5412 /* TIOCSTI: types into somebody's terminal */, errno_answer(EPERM));
  when_equal(p, 0x541c /* TIOCLINUX: the same through the console */, errno_answer(EPERM));
  answer(p, SECCOMP_RET_ALLOW);
  end_block(p, block);
}

static void restrict_personality(struct program *p) {
  unsigned short block = begin_block(p, SYS_personality);
  load_argument(p, 0);
  when_equal(p, 0, SECCOMP_RET_ALLOW);
  when_equal(p, 0x40000 /* ADDR_NO_RANDOMIZE: debuggers */, SECCOMP_RET_ALLOW);
  when_equal(p, 0xffffffff /* only asks */, SECCOMP_RET_ALLOW);
  answer_errno(p, EPERM);
  end_block(p, block);
}

/* Whose calls they are. gVisor's kernel is one of its own inside, and has gaps. */
enum kernel { ON_LINUX, ON_GVISOR, ON_GVISOR_AS_ROOT };

static void spare_init(struct program *p, uint32_t number) {
  unsigned short block = begin_block(p, number);
  load_argument(p, 0);
  when_equal(p, 1, errno_answer(EPERM));
  answer(p, SECCOMP_RET_ALLOW);
  end_block(p, block);
}

static void mend_gvisor(struct program *p, enum kernel kernel) {
  /* Its PID 1 can be signalled like any other. */
  static const uint16_t signals[] = {N(kill), N(tkill), N(tgkill), N(rt_sigqueueinfo), N(rt_tgsigqueueinfo), N(pidfd_open)};
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) spare_init(p, signals[i]);
  /* On a link they fail with EBADF there, which ls and cp take for damage; this says that there are none. */
  when_equal(p, SYS_lgetxattr, errno_answer(EOPNOTSUPP));
  when_equal(p, SYS_llistxattr, errno_answer(EOPNOTSUPP));
  if (kernel != ON_GVISOR_AS_ROOT) return;
  /* There is one user, who is 0: tar and npm give files to the users of an archive, and must not fail over it. */
  when_equal(p, SYS_fchown, SECCOMP_RET_ERRNO);
  when_equal(p, SYS_fchownat, SECCOMP_RET_ERRNO);
#if defined(__x86_64__)
  when_equal(p, SYS_chown, SECCOMP_RET_ERRNO);
  when_equal(p, SYS_lchown, SECCOMP_RET_ERRNO);
#endif
}

static void build_filter(struct program *p, enum kernel kernel) {
  p->length = 0;
  load(p, offsetof(struct seccomp_data, arch));
  step(p, BPF_JMP | BPF_JEQ | BPF_K, OWN_ARCH, 1, 0);
  answer(p, SECCOMP_RET_KILL_PROCESS); /* 32-bit calls have other numbers: nothing below would hold */
  load_call(p);
#if defined(__x86_64__)
  step(p, BPF_JMP | BPF_JGE | BPF_K, 0x40000000 /* x32 */, 0, 1);
  answer_errno(p, EPERM);
#endif
  when_equal(p, SYS_clone3, errno_answer(ENOSYS));
  refuse_namespaces(p, SYS_clone);
  refuse_namespaces(p, SYS_unshare);
  restrict_sockets(p);
  restrict_ioctl(p);
  restrict_personality(p);
  if (kernel != ON_LINUX) mend_gvisor(p, kernel);
  allow_table(p);
  step(p, BPF_JMP | BPF_JGT | BPF_K, NEWEST_KNOWN, 0, 1);
  answer_errno(p, ENOSYS);
  answer_errno(p, EPERM);
}

#endif
