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
  int read_only, tree;
};

static _Noreturn void refuse(const char *what, const char *which) {
  dprintf(2, "launch: %s %s: %s\n", what, which, strerror(errno));
  _exit(125);
}

static void take_tree(struct bind *b) {
  enum { CLONE_TREE = 1, RECURSIVE = 0x8000 };
  b->tree = (int)syscall(SYS_open_tree, AT_FDCWD, b->from, CLONE_TREE | RECURSIVE | O_CLOEXEC);
  if (b->tree < 0) refuse("cannot take", b->from);
  struct {
    uint64_t set, clear, propagation, userns;
  } attributes = {0x2 /* nosuid */ | 0x4 /* nodev */ | (b->read_only ? 0x1u : 0), 0, 0, 0};
  /* Kernels before 5.12 lack it; bwrap sets the same flags on its own binds. */
  syscall(SYS_mount_setattr, b->tree, "", AT_EMPTY_PATH | RECURSIVE, &attributes, sizeof attributes);
}

static void attach_tree(const struct bind *b) {
  struct stat s;
  if (fstat(b->tree, &s) < 0) refuse("cannot look at", b->from);
  if (S_ISDIR(s.st_mode) ? mkdir(b->name, 0755) < 0 : mknod(b->name, S_IFREG | 0644, 0) < 0)
    refuse("cannot make a place for", b->name);
  enum { FROM_EMPTY_PATH = 4 };
  if (syscall(SYS_move_mount, b->tree, "", AT_FDCWD, b->name, FROM_EMPTY_PATH) < 0) refuse("cannot attach", b->name);
  close(b->tree);
}

static void make_stage(const char *folder, struct bind *binds, int count) {
  if (unshare(CLONE_NEWNS) < 0) refuse("cannot unshare mounts for", folder);
  if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) refuse("cannot make private", "/");
  for (int i = 0; i < count; i++) take_tree(&binds[i]);
  if (mount("scriptorium", folder, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=0755") < 0)
    refuse("cannot mount on", folder);
  if (chdir(folder) < 0) refuse("cannot enter", folder);
  for (int i = 0; i < count; i++) attach_tree(&binds[i]);
  if (chdir("/") < 0) refuse("cannot enter", "/");
}

#endif
