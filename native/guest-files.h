/*
 * File operations, done inside the sandbox with the session's own rights (S3).
 *
 * Promises: only regular files are opened for content (O_NONBLOCK and fstat: a FIFO, a device, a leased file cannot
 * hang PID 1); a file is replaced by rename of a synced temporary file in its own directory, so that it is always
 * either the old or the new one; whoever writes says what must be there now, and it is compared here.
 */
#ifndef SCRIPTORIUM_GUEST_FILES_H
#define SCRIPTORIUM_GUEST_FILES_H

#include "guest-wire.h"
#include "sha256.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <fcntl.h>

enum { ANY = 0, ABSENT = 1, DIGEST = 2 };
enum { MAX_PUTS = 8 };
static const off_t MAX_HASHED = (off_t)256 << 20;

struct expectation {
  uint8_t kind;
  uint8_t digest[32];
};

struct put {
  uint32_t id;
  int open; /* 1 from PUT_BEGIN to PUT_COMMIT */
  int fd, status;
  uint32_t mode;
  struct expectation expected;
  struct sha256 sum;
  char target[PATH_MAX], temporary[PATH_MAX];
};

static struct put puts_open[MAX_PUTS];

static uint8_t type_of(mode_t mode) {
  return S_ISREG(mode) ? 0 : S_ISDIR(mode) ? 1 : S_ISLNK(mode) ? 2 : 3;
}

enum { STAT_SIZE = 21 };
static void put_stat(uint8_t *at, const struct stat *s) {
  at[0] = type_of(s->st_mode);
  put_u32(at + 1, s->st_mode & 07777);
  put_u64(at + 5, (uint64_t)s->st_size);
  put_u64(at + 13, (uint64_t)s->st_mtim.tv_sec * 1000 + (uint64_t)s->st_mtim.tv_nsec / 1000000);
}

/* Opens a regular file for reading; otherwise -1 and `*status`. */
static int open_regular(const char *path, struct stat *s, int *status) {
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) {
    /* A socket cannot be opened at all; a FIFO can, and is refused below. */
    *status = errno == ENXIO ? NOT_A_FILE : errno;
    return -1;
  }
  *status = fstat(fd, s) < 0 ? errno : S_ISREG(s->st_mode) ? 0 : S_ISDIR(s->st_mode) ? EISDIR : NOT_A_FILE;
  if (*status == 0) return fd;
  close(fd);
  return -1;
}

static void file_stat(uint32_t id, struct cursor *c) {
  char *path = take_string(c);
  take_end(c);
  struct stat s;
  if (lstat(path, &s) < 0) return reply_status(id, errno);
  uint8_t *at = open_frame(4 + STAT_SIZE);
  put_u32(at, 0);
  put_stat(at + 4, &s);
  close_frame(REPLY, id, 4 + STAT_SIZE);
}

static void file_read(uint32_t id, struct cursor *c) {
  uint64_t offset = take_u64(c);
  uint32_t most = take_u32(c);
  char *path = take_string(c);
  take_end(c);
  if (most > MAX_DATA) most = MAX_DATA;
  struct stat s;
  int status, fd = open_regular(path, &s, &status);
  if (fd < 0) return reply_status(id, status);
  uint8_t *at = open_frame(13 + (size_t)most);
  size_t got = 0;
  uint8_t at_end = 0;
  while (got < most && !at_end) {
    ssize_t n = pread(fd, at + 13 + got, most - got, (off_t)(offset + got));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      status = errno;
      close(fd);
      return reply_status(id, status);
    }
    got += (size_t)n;
    at_end = n == 0;
  }
  close(fd);
  put_u32(at, 0);
  put_u64(at + 4, (uint64_t)s.st_size);
  at[12] = at_end;
  close_frame(REPLY, id, 13 + got);
}

/* Digest of what `path` names now. `*exists` is 0 where there is nothing. */
static int digest_of(const char *path, int *exists, struct stat *s, uint8_t digest[32]) {
  static uint8_t chunk[1 << 16];
  int status, fd = open_regular(path, s, &status);
  *exists = fd >= 0 || status != ENOENT;
  if (fd < 0) return status == ENOENT ? 0 : status;
  struct sha256 sum;
  sha256_start(&sum);
  if (s->st_size > MAX_HASHED) status = TOO_LARGE;
  for (ssize_t n = 1; status == 0 && n != 0;) {
    n = read(fd, chunk, sizeof chunk);
    if (n > 0) sha256_add(&sum, chunk, (size_t)n);
    if (n < 0 && errno != EINTR) status = errno;
    if (sum.size_bytes > (uint64_t)MAX_HASHED) status = TOO_LARGE; /* it grows while we read */
  }
  close(fd);
  sha256_end(&sum, digest);
  return status;
}

/* u8 exists | u64 size | digest */
static void reply_digest(uint32_t id, int exists, uint64_t size, const uint8_t digest[32]) {
  uint8_t *at = open_frame(45);
  put_u32(at, 0);
  at[4] = (uint8_t)exists;
  put_u64(at + 5, size);
  memcpy(at + 13, digest, 32);
  close_frame(REPLY, id, 45);
}

static void file_hash(uint32_t id, struct cursor *c) {
  char *path = take_string(c);
  take_end(c);
  struct stat s = {0};
  uint8_t digest[32] = {0};
  int exists, status = digest_of(path, &exists, &s, digest);
  if (status != 0) return reply_status(id, status);
  reply_digest(id, exists, exists ? (uint64_t)s.st_size : 0, digest);
}

static struct expectation take_expectation(struct cursor *c) {
  struct expectation e;
  e.kind = take_u8(c);
  memcpy(e.digest, take(c, 32), 32);
  if (e.kind > DIGEST) end_guest(71);
  return e;
}

/* 0 when `path` holds what is expected (and what is there is a file, if anything is). */
static int check_expectation(const char *path, const struct expectation *e, int *exists, struct stat *s) {
  uint8_t digest[32];
  int status = 0;
  if (e->kind == DIGEST) {
    status = digest_of(path, exists, s, digest);
    if (status != 0) return status;
    return *exists && memcmp(digest, e->digest, 32) == 0 ? 0 : CHANGED;
  }
  *exists = stat(path, s) == 0;
  if (!*exists) return errno == ENOENT ? 0 : errno;
  if (S_ISDIR(s->st_mode)) return EISDIR;
  if (!S_ISREG(s->st_mode)) return NOT_A_FILE;
  return e->kind == ABSENT ? CHANGED : 0;
}

static int make_parents(char *path) {
  for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    int failed = mkdir(path, 0755) < 0 && errno != EEXIST ? errno : 0;
    *slash = '/';
    if (failed == EROFS || failed == EACCES) continue; /* it may well exist; the open below tells */
    if (failed != 0) return failed;
  }
  return 0;
}

/* What `path` names in the end, so that a link to a file keeps pointing at the new content. */
static int resolve_target(char *path, char into[PATH_MAX]) {
  char *name = strrchr(path, '/');
  if (path[0] != '/' || strlen(path) >= PATH_MAX - 64) return EINVAL;
  if (name[1] == 0 || strcmp(name, "/.") == 0 || strcmp(name, "/..") == 0) return EISDIR;
  if (realpath(path, into) != NULL) return 0;
  if (errno != ENOENT) return errno;
  int status = make_parents(path);
  if (status != 0) return status;
  *name = 0;
  char *parent = realpath(path[0] == 0 ? "/" : path, into);
  status = parent == NULL ? errno : 0;
  *name = '/';
  if (status != 0) return status;
  if (strlen(into) + strlen(name) >= PATH_MAX - 64) return ENAMETOOLONG;
  if (strcmp(into, "/") == 0) into[0] = 0;
  strcat(into, name);
  return 0;
}

static int begin_put(struct put *p, char *path, uint32_t tag) {
  int status = resolve_target(path, p->target);
  if (status != 0) return status;
  size_t folder = (size_t)(strrchr(p->target, '/') - p->target) + 1;
  if (folder > PATH_MAX - 64) return ENAMETOOLONG;
  /* The name is the call's own, so that what a killed sandbox left half-written is removed by the next attempt. */
  memcpy(p->temporary, p->target, folder);
  snprintf(p->temporary + folder, 64, ".scriptorium-%08x.tmp", tag);
  unlink(p->temporary);
  p->fd = open(p->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  return p->fd < 0 ? errno : 0;
}

static struct put *find_put(uint32_t id) {
  for (int i = 0; i < MAX_PUTS; i++)
    if (puts_open[i].open && puts_open[i].id == id) return &puts_open[i];
  return NULL;
}

/* A failure is kept and answered at the commit, so the host can send the whole file without waiting. */
static void put_begin(uint32_t id, struct cursor *c) {
  uint32_t mode = take_u32(c);
  struct expectation expected = take_expectation(c);
  uint32_t tag = take_u32(c);
  char *path = take_string(c);
  take_end(c);
  struct put *p = NULL;
  for (int i = 0; i < MAX_PUTS && p == NULL; i++)
    if (!puts_open[i].open) p = &puts_open[i];
  if (p == NULL || find_put(id) != NULL) end_guest(71);
  p->open = 1, p->id = id, p->fd = -1, p->mode = mode & 0777, p->expected = expected;
  sha256_start(&p->sum);
  p->status = begin_put(p, path, tag);
}

static void put_data(uint32_t id, struct cursor *c) {
  struct put *p = find_put(id);
  if (p == NULL) end_guest(71);
  size_t size = (size_t)(c->end - c->at);
  uint8_t *data = take(c, size);
  sha256_add(&p->sum, data, size);
  while (p->status == 0 && size > 0) {
    ssize_t n = write(p->fd, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) p->status = errno;
    else data += n, size -= (size_t)n;
  }
}

static void sync_folder(const char *path) {
  char folder[PATH_MAX];
  snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path) + 1, path);
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

static int commit_put(struct put *p, int *existed) {
  struct stat now;
  if (p->status != 0) return p->status;
  int status = check_expectation(p->target, &p->expected, existed, &now);
  if (status != 0) return status;
  if (*existed && access(p->target, W_OK) < 0) return errno;
  if (fchmod(p->fd, *existed ? now.st_mode & 0777 : p->mode) < 0) return errno;
  if (fsync(p->fd) < 0) return errno;
  if (rename(p->temporary, p->target) < 0) return errno;
  sync_folder(p->target);
  return 0;
}

static void put_commit(uint32_t id, struct cursor *c) {
  struct put *p = find_put(id);
  take_end(c);
  if (p == NULL) end_guest(71);
  int existed = 0, status = commit_put(p, &existed);
  if (p->fd >= 0) close(p->fd);
  if (status != 0 && p->fd >= 0) unlink(p->temporary);
  p->open = 0;
  if (status != 0) return reply_status(id, status);
  uint64_t size = p->sum.size_bytes;
  uint8_t digest[32];
  sha256_end(&p->sum, digest);
  reply_digest(id, existed, size, digest);
}

static void file_remove(uint32_t id, struct cursor *c) {
  struct expectation expected = take_expectation(c);
  char *path = take_string(c);
  take_end(c);
  struct stat s;
  uint8_t nothing[32] = {0};
  int exists, status = check_expectation(path, &expected, &exists, &s);
  if (status != 0 && !(status == NOT_A_FILE && expected.kind == ANY)) return reply_status(id, status);
  /* A dangling link "does not exist", but it has a name that can be removed. */
  if (lstat(path, &s) < 0) return errno == ENOENT ? reply_digest(id, 0, 0, nothing) : reply_status(id, errno);
  if (unlink(path) < 0) return reply_status(id, errno);
  sync_folder(path);
  reply_digest(id, 1, 0, nothing);
}

#endif
