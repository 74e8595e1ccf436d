/*
 * Running programs: one supervisor per call, its pipes, its ending, its whole tree.
 *
 * Promises
 * - Output is read only as far as the host gave credit, so a flood waits in its pipe and not in anybody's memory.
 * - What was in the pipes when the main process ended is delivered before EXIT; what background processes write later
 *   is read and dropped, so that they neither block nor get SIGPIPE.
 * - KILL ends every process of the call, wherever it moved to; GONE is said once none is left.
 */
#ifndef SCRIPTORIUM_GUEST_CALLS_H
#define SCRIPTORIUM_GUEST_CALLS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "guest-tree.h"
#include "guest-wire.h"
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { MAX_CALLS = 256, MAX_ARGV = 4096, MAX_ENV = 4096, PIPES = 3, CONTROL = 2, CONTROL_FD = 9, READ_SIZE = 64 << 10 };
enum { FLAG_MERGE = 1 };
enum { EXITED = 0, SIGNALLED = 1, FAILED = 2 };

struct ending {
  uint32_t how, value;
};

struct call {
  uint32_t id;
  int used;
  int stdin_fd;    /* memfd that gathers STDIN frames, before SPAWN */
  pid_t supervisor; /* 0 before SPAWN and after it was reaped */
  int status_fd;
  int pipe[PIPES]; /* stdout, stderr, control */
  int64_t due[PIPES]; /* bytes still to be delivered after the main process ended */
  uint64_t credit, dropped;
  int discard, ended, exit_sent;
  unsigned kill_attempts;
  struct ending ending;
};

static struct call calls[MAX_CALLS];

static struct call *find_call(uint32_t id) {
  for (int i = 0; i < MAX_CALLS; i++)
    if (calls[i].used && calls[i].id == id) return &calls[i];
  return NULL;
}

static struct call *new_call(uint32_t id) {
  for (int i = 0; i < MAX_CALLS; i++) {
    struct call *c = &calls[i];
    if (c->used) continue;
    memset(c, 0, sizeof *c);
    c->used = 1, c->id = id;
    c->stdin_fd = c->status_fd = c->pipe[0] = c->pipe[1] = c->pipe[2] = -1;
    return c;
  }
  return NULL;
}

static void close_fd(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

static void send_exit(struct call *c) {
  uint8_t *at = open_frame(13);
  at[0] = (uint8_t)c->ending.how;
  put_u32(at + 1, c->ending.value);
  put_u64(at + 5, c->dropped);
  close_frame(EXIT, c->id, 13);
  c->exit_sent = 1;
}

/* The call is over once its main process was reported and its supervisor, hence its whole tree, is gone. */
static void finish_if_gone(struct call *c) {
  if (c->supervisor != 0 || !c->exit_sent) return;
  open_frame(0);
  close_frame(GONE, c->id, 0);
  close_fd(&c->stdin_fd), close_fd(&c->status_fd);
  for (int i = 0; i < PIPES; i++) close_fd(&c->pipe[i]);
  c->used = 0;
}

/* The control stream is never cut short by a flood on the others; its own cap is the host's. */
static int is_dropped(const struct call *c, int i) { return c->exit_sent || (c->discard && i != CONTROL); }

static void deliver_ending(struct call *c) {
  if (!c->ended || c->exit_sent) return;
  for (int i = 0; i < PIPES; i++)
    if (c->due[i] > 0 && !is_dropped(c, i)) return;
  send_exit(c);
}

static void note_ending(struct call *c, struct ending ending) {
  if (c->ended) return;
  c->ended = 1, c->ending = ending;
  for (int i = 0; i < PIPES; i++) {
    int waiting = 0;
    c->due[i] = c->pipe[i] >= 0 && ioctl(c->pipe[i], FIONREAD, &waiting) == 0 ? waiting : 0;
  }
}

/* ---- in the new processes ---- */

static void close_from(unsigned first) {
  if (syscall(SYS_close_range, first, ~0u, 0) == 0) return;
  /* Not in this kernel. Those that are open, and not all that could be: where a call is dear that is seconds. */
  DIR *open_ones = opendir("/proc/self/fd");
  if (open_ones == NULL) _exit(74);
  for (struct dirent *entry; (entry = readdir(open_ones)) != NULL;) {
    int fd = atoi(entry->d_name);
    if (entry->d_name[0] != '.' && fd >= (int)first && fd != dirfd(open_ones)) close(fd);
  }
  closedir(open_ones);
}

/*
 * When memory runs out, a program of the session must be chosen and never PID 1, whose death ends the sandbox (a memfd
 * bomb holds its memory in no process, so all look equally small). Raising one's own score needs no privilege, only a
 * dumpable process: this one may be, for nothing of the guest's is left open in it.
 */
static void offer_to_oom_killer(void) {
  prctl(PR_SET_DUMPABLE, 1);
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  ssize_t ignored = write(fd, "500", 3);
  (void)ignored;
  close(fd);
}

static _Noreturn void run_program(int in, const int to[PIPES], const char *cwd, char **argv, char **env) {
  int high[4] = {in, to[0], to[1], to[2]}, place[4] = {0, 1, 2, CONTROL_FD};
  for (int i = 0; i < 4; i++) high[i] = fcntl(high[i], F_DUPFD_CLOEXEC, 32);
  for (int i = 0; i < 4; i++) dup2(high[i], place[i]);
  for (int fd = 3; fd < CONTROL_FD; fd++) close(fd);
  close_from(CONTROL_FD + 1);
  offer_to_oom_killer();
  /* However many they become, PID 1 and the host come first: that is who can end them. */
  setpriority(PRIO_PROCESS, 0, 5);
  setsid();
  umask(022);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  const char *what = cwd;
  if (chdir(cwd) == 0) {
    what = argv[0];
    environ = env;
    execvp(argv[0], argv);
  }
  int problem = errno;
  dprintf(2, "%s: %s\n", what, strerror(problem));
  _exit(problem == EACCES ? 126 : 127);
}

/* Lives as long as the call has a process. Reports the main one's ending; reaps whatever is reparented to it. */
static _Noreturn void supervise(int status_fd, int in, const int to[PIPES], const char *cwd, char **argv, char **env) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  pid_t main_pid = fork();
  if (main_pid == 0) run_program(in, to, cwd, argv, env);
  struct ending ending = {FAILED, (uint32_t)errno};
  status_fd = dup2(status_fd, 0);
  close_from(1);
  if (main_pid < 0) {
    ssize_t ignored = write(status_fd, &ending, sizeof ending);
    _exit(ignored < 0);
  }
  for (;;) {
    int status;
    pid_t pid = waitpid(-1, &status, 0);
    if (pid < 0 && errno == EINTR) continue;
    if (pid < 0) _exit(0);
    if (pid != main_pid) continue;
    ending.how = WIFSIGNALED(status) ? SIGNALLED : EXITED;
    ending.value = (uint32_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    if (write(status_fd, &ending, sizeof ending) < 0) _exit(1);
    close(status_fd);
  }
}

/* ---- in the guest ---- */

static int open_pipes(int ends[4][2], int count) {
  for (int i = 0; i < count; i++)
    if (pipe2(ends[i], O_CLOEXEC) < 0) return errno;
  return 0;
}

static int start_call(struct call *c, int merge, const char *cwd, char **argv, char **env) {
  int ends[4][2] = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
  int status = open_pipes(ends, 4), in = c->stdin_fd;
  if (status == 0 && in < 0 && (in = c->stdin_fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0) status = errno;
  if (status == 0 && lseek(in, 0, SEEK_SET) < 0) status = errno;
  if (status == 0) {
    const int to[PIPES] = {ends[0][1], merge ? ends[0][1] : ends[1][1], ends[2][1]};
    pid_t pid = fork();
    if (pid == 0) supervise(ends[3][1], in, to, cwd, argv, env);
    if (pid < 0) status = errno;
    else c->supervisor = pid;
  }
  for (int i = 0; i < 4; i++) close_fd(&ends[i][1]);
  close_fd(&c->stdin_fd);
  for (int i = 0; i < 4; i++) {
    if (status != 0) close_fd(&ends[i][0]);
    else fcntl(ends[i][0], F_SETFL, O_NONBLOCK);
  }
  for (int i = 0; i < PIPES; i++) c->pipe[i] = ends[i][0];
  c->status_fd = ends[3][0];
  return status;
}

static void spawn_call(uint32_t id, struct cursor *cursor) {
  static char *argv[MAX_ARGV + 1], *env[MAX_ENV + 1];
  uint8_t flags = take_u8(cursor);
  uint32_t credit = take_u32(cursor);
  char *cwd = take_string(cursor);
  if (take_strings(cursor, argv, MAX_ARGV) == 0) end_guest(71);
  take_strings(cursor, env, MAX_ENV);
  take_end(cursor);
  struct call *c = find_call(id);
  if (c != NULL && (c->supervisor != 0 || c->ended)) end_guest(71);
  if (c == NULL) c = new_call(id);
  if (c == NULL) end_guest(71); /* the host counts, too */
  c->credit = credit;
  int status = start_call(c, flags & FLAG_MERGE, cwd, argv, env);
  if (status == 0) return;
  note_ending(c, (struct ending){FAILED, (uint32_t)status});
  send_exit(c);
  finish_if_gone(c);
}

static void stdin_data(uint32_t id, struct cursor *cursor) {
  struct call *c = find_call(id);
  if (c == NULL) c = new_call(id);
  if (c == NULL || c->supervisor != 0) end_guest(71);
  if (c->stdin_fd < 0) c->stdin_fd = memfd_create("stdin", MFD_CLOEXEC);
  size_t size = (size_t)(cursor->end - cursor->at);
  uint8_t *data = take(cursor, size);
  if (c->stdin_fd >= 0 && write(c->stdin_fd, data, size) != (ssize_t)size) end_guest(72);
}

/* Reads what there is, as far as credit and fairness allow; 0 when the pipe has ended. */
static int read_pipe(struct call *c, int i) {
  static uint8_t scratch[READ_SIZE];
  int dropping = is_dropped(c, i);
  size_t most = READ_SIZE;
  if (!dropping && c->credit < most) most = (size_t)c->credit;
  if (!dropping && c->ended && (uint64_t)c->due[i] < most) most = (size_t)c->due[i];
  if (most == 0) return 1;
  uint8_t *at = dropping ? scratch : open_frame(1 + most);
  ssize_t n = read(c->pipe[i], dropping ? at : at + 1, most);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n == 0) return 0;
  if (dropping) {
    if (!c->exit_sent) c->dropped += (uint64_t)n;
    return 1;
  }
  at[0] = (uint8_t)i;
  close_frame(OUT, c->id, 1 + (size_t)n);
  c->credit -= (uint64_t)n;
  if (c->ended) c->due[i] -= n;
  return 1;
}

static void pipe_ready(struct call *c, int i) {
  if (read_pipe(c, i)) return;
  close_fd(&c->pipe[i]);
  c->due[i] = 0;
}

static void status_ready(struct call *c) {
  struct ending ending;
  if (c->status_fd < 0) return;
  ssize_t n = read(c->status_fd, &ending, sizeof ending);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  close_fd(&c->status_fd);
  /* No report: the supervisor itself was killed, which only a process of the sandbox can have done. */
  if (n != (ssize_t)sizeof ending) ending = (struct ending){SIGNALLED, SIGKILL};
  note_ending(c, ending);
}

/* Kills what a killed supervisor left: every direct child of the guest that is no supervisor, with its tree. */
static int kill_strays(void) {
  pid_t self = getpid();
  int found = 0;
  scan_processes();
  for (size_t i = 0; i < process_count; i++) {
    if (processes[i].parent != self || processes[i].state == 'Z') continue;
    int known = 0;
    for (int k = 0; k < MAX_CALLS && !known; k++) known = calls[k].used && calls[k].supervisor == processes[i].pid;
    if (known) continue;
    processes[i].marked = 1;
    found = 1;
    mark_descendants(processes[i].pid);
  }
  if (found) kill_marked();
  return found;
}

/* Returns whether a supervisor died unnaturally, so that strays must be looked for. */
static int reap(void) {
  int strays = 0;
  for (;;) {
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid <= 0) return strays;
    struct call *c = NULL;
    for (int i = 0; i < MAX_CALLS && c == NULL; i++)
      if (calls[i].used && calls[i].supervisor == pid) c = &calls[i];
    if (c == NULL) continue;
    c->supervisor = 0;
    if (WIFSIGNALED(status)) strays = 1;
    status_ready(c);
    if (!c->ended) note_ending(c, (struct ending){SIGNALLED, SIGKILL});
  }
}

#endif
