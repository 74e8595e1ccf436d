/*
 * Removing a session's disk: the tree was written by somebody hostile, so no path of it is ever resolved. Only names
 * relative to an open folder are used, links are never followed, and a tree of any depth is taken down with few
 * descriptors, by moving deep folders up to the root of the removal.
 */
#ifndef SCRIPTORIUM_LAUNCH_REMOVE_H
#define SCRIPTORIUM_LAUNCH_REMOVE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REMOVE_DEPTH = 32 };
static unsigned long moved_up;

static int open_folder(int at, const char *name) {
  const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  int fd = openat(at, name, flags);
  if (fd >= 0 || errno != EACCES) return fd;
  /* Without root, a folder that its owner closed is opened again; the name cannot be swapped, nothing runs here. */
  if (fchmodat(at, name, 0700, 0) < 0) return -1;
  return openat(at, name, flags);
}

/* Empties `folder`, which it closes. Returns 0 when everything in it is gone or was moved to `top`. */
static int empty_folder(int folder, int top, int depth) {
  int failed = 0;
  fchmod(folder, 0700);
  DIR *dir = fdopendir(folder);
  if (dir == NULL) return close(folder), 1;
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    const char *name = entry->d_name;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
    if (unlinkat(folder, name, 0) == 0) continue;
    if (errno != EISDIR && errno != EPERM) {
      failed = 1;
      continue;
    }
    if (depth >= REMOVE_DEPTH) {
      char up[64];
      snprintf(up, sizeof up, ".removed-%lu", moved_up++);
      failed |= renameat(folder, name, top, up) < 0;
      continue;
    }
    int below = open_folder(folder, name);
    failed |= below < 0 || empty_folder(below, top, depth + 1) != 0;
    if (unlinkat(folder, name, AT_REMOVEDIR) < 0 && errno != ENOENT) failed = 1;
  }
  closedir(dir);
  return failed;
}

static int remove_tree(const char *path) {
  int top = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (top < 0) return errno == ENOENT ? 0 : 1;
  for (;;) {
    unsigned long before = moved_up;
    int failed = empty_folder(dup(top), top, 0);
    if (rmdir(path) == 0) return 0;
    if (failed && moved_up == before) return 1;
    if (!failed && moved_up == before && errno != ENOTEMPTY && errno != EEXIST) return 1;
    lseek(top, 0, SEEK_SET);
  }
}

#endif
