/*
 * Finding and killing process trees through /proc (S5).
 *
 * Every call lives under a supervisor that is a child subreaper, so a process that left its group, its session or its
 * parent is still the supervisor's descendant. Only supervisors are ever direct children of the guest; any other
 * direct child is what a killed supervisor left behind, and dies.
 */
#ifndef SCRIPTORIUM_GUEST_TREE_H
#define SCRIPTORIUM_GUEST_TREE_H

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_PROCESSES = 1 << 16 };

struct process {
  pid_t pid, parent;
  char state;
  char marked;
};

static struct process processes[MAX_PROCESSES];
static size_t process_count;

static int read_process(const char *name, struct process *into) {
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/%.20s/stat", name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return 0;
  text[n] = 0;
  /* The name in parentheses is the program's own choice and may hold anything, so count from its end. */
  char *after = strrchr(text, ')');
  int parent;
  if (after == NULL || sscanf(after + 1, " %c %d", &into->state, &parent) != 2) return 0;
  into->pid = (pid_t)atoi(name);
  into->parent = parent;
  into->marked = 0;
  return 1;
}

static void scan_processes(void) {
  process_count = 0;
  DIR *proc = opendir("/proc");
  if (proc == NULL) return;
  for (struct dirent *entry; (entry = readdir(proc)) != NULL;) {
    if (entry->d_name[0] < '1' || entry->d_name[0] > '9' || process_count == MAX_PROCESSES) continue;
    if (read_process(entry->d_name, &processes[process_count])) process_count++;
  }
  closedir(proc);
}

static int is_marked(pid_t pid) {
  for (size_t i = 0; i < process_count; i++)
    if (processes[i].pid == pid) return processes[i].marked;
  return 0;
}

/* Marks what descends from `root`, without `root`. Children mostly come after parents, so few rounds are needed. */
static void mark_descendants(pid_t root) {
  for (int changed = 1; changed;) {
    changed = 0;
    for (size_t i = 0; i < process_count; i++) {
      struct process *p = &processes[i];
      if (p->marked || (p->parent != root && !is_marked(p->parent))) continue;
      p->marked = 1, changed = 1;
    }
  }
}

static size_t kill_marked(void) {
  size_t alive = 0;
  for (size_t i = 0; i < process_count; i++) {
    struct process *p = &processes[i];
    if (!p->marked || p->state == 'Z' || p->state == 'X') continue;
    kill(p->pid, SIGKILL);
    alive++;
  }
  return alive;
}

/*
 * A tree that forks faster than it is walked: stop everything in this pid namespace at once (kill(-1) holds the
 * kernel's task list, so no fork slips through), walk in peace, kill the tree, let the others go on.
 * Only ever as PID 1: anywhere else -1 would be the whole machine.
 */
static void kill_frozen(pid_t root) {
  static pid_t was_stopped[4096];
  size_t stopped = 0;
  if (getpid() != 1) return;
  for (size_t i = 0; i < process_count; i++)
    if (processes[i].state == 'T' && stopped < 4096) was_stopped[stopped++] = processes[i].pid;
  kill(-1, SIGSTOP);
  scan_processes();
  mark_descendants(root);
  kill_marked();
  for (size_t i = 0; i < process_count; i++) {
    size_t k = 0;
    while (k < stopped && was_stopped[k] != processes[i].pid) k++;
    if (k == stopped && processes[i].pid != 1) kill(processes[i].pid, SIGCONT);
  }
}

static pid_t held[MAX_PROCESSES];
static size_t held_count;

static int is_any_moving(void) {
  scan_processes();
  for (size_t i = 0; i < process_count; i++)
    for (size_t k = 0; k < held_count; k++)
      if (processes[i].pid == held[k] && strchr("TZX", processes[i].state) == NULL) return 1;
  return 0;
}

/* Everything that the session runs stops, at once and in whatever tree; the supervisors go on. Only ever as PID 1. */
static void hold_still(void) {
  size_t kept = 0;
  if (getpid() != 1) return;
  scan_processes();
  /* What had stopped by itself stays so when the rest is let go. */
  for (size_t i = 0; i < process_count; i++)
    if (processes[i].state == 'T') held[kept++] = processes[i].pid;
  kill(-1, SIGSTOP);
  scan_processes();
  held_count = 0;
  for (size_t i = 0; i < process_count; i++) {
    struct process *p = &processes[i];
    if (p->pid == 1) continue;
    if (p->parent == 1) kill(p->pid, SIGCONT);
    p->marked = p->parent != 1;
    for (size_t k = 0; k < kept; k++) p->marked &= held[k] != p->pid;
  }
  for (size_t i = 0; i < process_count; i++)
    if (processes[i].marked) held[held_count++] = processes[i].pid;
  /* The signal is on its way: what is said to be still must be. */
  for (int attempt = 0; attempt < 100 && is_any_moving(); attempt++) usleep(1000);
}

static void let_go(void) {
  for (size_t i = 0; i < held_count; i++) kill(held[i], SIGCONT);
  held_count = 0;
}

/* One attempt at everything below `supervisor`; the supervisor ends by itself once it has no child left. */
static void kill_below(pid_t supervisor, unsigned attempt) {
  scan_processes();
  mark_descendants(supervisor);
  kill_marked();
  /* A tree of the usual kind is gone by now. */
  if (attempt % 4 == 3) kill_frozen(supervisor);
  kill(supervisor, SIGCONT); /* it may have been stopped from inside */
}

#endif
