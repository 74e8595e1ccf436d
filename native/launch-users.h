/*
 * A user namespace with two users of the host: 0 is the supervisor's and 1000 the session's. For gVisor, whose kernel
 * runs as the one and keeps the other's files. Whoever started us owns the namespace, so neither has a right over it
 * from outside.
 */
#ifndef SCRIPTORIUM_LAUNCH_USERS_H
#define SCRIPTORIUM_LAUNCH_USERS_H

#include "launch-stage.h"
#include <grp.h>
#include <sys/wait.h>

enum { SESSION_INSIDE = 1000 };

static int write_map(pid_t pid, const char *name, long supervisor, long session) {
  char file[64], text[96];
  snprintf(file, sizeof file, "/proc/%d/%s", (int)pid, name);
  int size = snprintf(text, sizeof text, "0 %ld 1\n%d %ld 1\n", supervisor, SESSION_INSIDE, session);
  int fd = open(file, O_WRONLY | O_CLOEXEC);
  return fd < 0 || write(fd, text, (size_t)size) != size;
}

/* A map of more than oneself is written from outside: by a child that stays there. */
static void become_supervisor(long supervisor, long session) {
  int entered[2];
  if (setgroups(0, NULL) < 0) refuse("cannot drop", "groups");
  if (pipe(entered) < 0) refuse("cannot make", "a pipe");
  pid_t self = getpid(), child = fork();
  if (child < 0) refuse("cannot fork for", "the map of users");
  if (child == 0) {
    char go;
    if (read(entered[0], &go, 1) != 1) _exit(1);
    _exit(write_map(self, "uid_map", supervisor, session) || write_map(self, "gid_map", supervisor, session));
  }
  int status;
  if (unshare(CLONE_NEWUSER) < 0) refuse("cannot make", "a user namespace");
  if (write(entered[1], "", 1) != 1 || waitpid(child, &status, 0) != child) refuse("cannot wait for", "the map of users");
  errno = EPERM;
  if (status != 0) refuse("cannot write", "the map of users");
  if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0) refuse("cannot become", "the supervisor");
}

#endif
