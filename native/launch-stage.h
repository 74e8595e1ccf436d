/*
 * The staging folder: what bwrap must see, made visible to the session's uid in a private mount namespace.
 *
 * The data folder or the clone may lie below a 0700 home that the session's uid cannot enter. Every source is taken
 * as a detached mount first (so hiding a parent below the stage does not matter) and attached to a small tmpfs.
 */
#ifndef SCRIPTORIUM_LAUNCH_STAGE_H
#define SCRIPTORIUM_LAUNCH_STAGE_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

enum { MAX_BINDS = 64 };
struct bind {
  const char *from, *name;
  int read_only, is_mapped, tree;
};

static _Noreturn void refuse(const char *what, const char *which) {
  dprintf(2, "launch: %s %s: %s\n", what, which, strerror(errno));
  _exit(125);
}

static void map_ids(pid_t child, const char *which, long owner, long uid, long self) {
  char file[64], line[96];
  snprintf(file, sizeof file, "/proc/%d/%s", (int)child, which);
  int length = snprintf(line, sizeof line, "%ld %ld 1\n", owner, uid);
  if (self >= 0) length += snprintf(line + length, sizeof line - (size_t)length, "%ld %ld 1\n", self, self);
  int fd = open(file, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, line, (size_t)length) != length) refuse("cannot map ids in", which);
  close(fd);
}

/*
 * A user namespace that nobody is in, for mounts to show what `owner` owns on disk as owned by `uid`. `self` stays who it
 * is: gVisor's kernel makes a file as itself, and then gives it away.
 */
static int mapped_namespace(long owner, long uid, long self) {
  int up[2], down[2];
  char word = 0;
  if (pipe2(up, O_CLOEXEC) < 0 || pipe2(down, O_CLOEXEC) < 0) refuse("cannot make", "a pipe");
  pid_t child = fork();
  if (child < 0) refuse("cannot fork for", "a user namespace");
  if (child == 0) {
    close(down[1]);
    word = unshare(CLONE_NEWUSER) == 0 ? 'y' : 'n';
    if (write(up[1], &word, 1) == 1 && read(down[0], &word, 1) < 0) _exit(1);
    _exit(0);
  }
  close(up[1]);
  if (read(up[0], &word, 1) != 1 || word != 'y') refuse("cannot make", "a user namespace for a disk");
  map_ids(child, "uid_map", owner, uid, self);
  map_ids(child, "gid_map", owner, uid, self);
  char file[64];
  snprintf(file, sizeof file, "/proc/%d/ns/user", (int)child);
  int fd = open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) refuse("cannot open", file);
  close(up[0]), close(down[0]), close(down[1]);
  waitpid(child, NULL, 0);
  return fd;
}

static void take_tree(struct bind *b, int mapping) {
  enum { CLONE_TREE = 1, RECURSIVE = 0x8000, ID_MAPPED = 0x100000 };
  b->tree = (int)syscall(SYS_open_tree, AT_FDCWD, b->from, CLONE_TREE | RECURSIVE | O_CLOEXEC);
  if (b->tree < 0) refuse("cannot take", b->from);
  struct {
    uint64_t set, clear, propagation, userns;
  } attributes = {0x2 /* nosuid */ | 0x4 /* nodev */ | (b->read_only ? 0x1u : 0), 0, 0, 0};
  /* Kernels before 5.12 lack it; bwrap sets the same flags on its own binds. */
  syscall(SYS_mount_setattr, b->tree, "", AT_EMPTY_PATH | RECURSIVE, &attributes, sizeof attributes);
  if (!b->is_mapped || mapping < 0) return;
  attributes.set = ID_MAPPED;
  attributes.userns = (uint64_t)mapping;
  if (syscall(SYS_mount_setattr, b->tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0)
    refuse("cannot map the ids of", b->from);
}

static void attach_tree(const struct bind *b) {
  struct stat s;
  if (fstat(b->tree, &s) < 0) refuse("cannot look at", b->from);
  /* Its place may be in what was attached before it. */
  if ((S_ISDIR(s.st_mode) ? mkdir(b->name, 0755) : mknod(b->name, S_IFREG | 0644, 0)) < 0 && errno != EEXIST)
    refuse("cannot make a place for", b->name);
  enum { FROM_EMPTY_PATH = 4 };
  if (syscall(SYS_move_mount, b->tree, "", AT_FDCWD, b->name, FROM_EMPTY_PATH) < 0) refuse("cannot attach", b->name);
  close(b->tree);
}

static void make_stage(const char *folder, struct bind *binds, int count, int mapping) {
  if (unshare(CLONE_NEWNS) < 0) refuse("cannot unshare mounts for", folder);
  if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) refuse("cannot make private", "/");
  for (int i = 0; i < count; i++) take_tree(&binds[i], mapping);
  if (mount("scriptorium", folder, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=0755") < 0)
    refuse("cannot mount on", folder);
  if (chdir(folder) < 0) refuse("cannot enter", folder);
  for (int i = 0; i < count; i++) attach_tree(&binds[i]);
  if (chdir("/") < 0) refuse("cannot enter", "/");
}

#endif
