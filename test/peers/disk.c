/*
 * A disk that can fail and lose power, for the files below one folder: preloaded (LD_PRELOAD) into the process under test.
 * disk.ts beside it compiles it, starts processes on it, and cuts the power.
 *
 * What is on the disk is only what was synced. At each fsync or fdatasync of a file its bytes are copied into the shadow
 * folder, at each fsync of a folder its list of names; a write or a rename alone reaches nothing. That is less than any real
 * file system keeps, and all that POSIX promises.
 *
 *   DISK_ROOT    real path of the folder
 *   DISK_SHADOW  what the disk holds: f<key> are bytes, d<key> are names; a key is the inode and its birth
 *   DISK_FAULTS  a file; while it is there, syncs of paths that contain its text (with a $ at the end: that end with it) fail
 *                with EIO. The kernel then calls the pages clean that it could not write: they are lost, also to a later
 *                sync that succeeds, until they are written again.
 *   DISK_LIES    syncs of paths that contain this text succeed and do nothing
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096
#define MOST_LOST 64

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

/* Pages that a failed sync lost, by file. */
static struct lost {
  char key[64];
  unsigned char *pages;
  size_t count;
} lost[MOST_LOST];
static volatile int any_lost;

static void die(const char *what) {
  dprintf(2, "disk: %s: %s\n", what, strerror(errno));
  abort();
}

/* Where fd leads, when that is below the root. */
static int ours(int fd, char *path) {
  const char *root = getenv("DISK_ROOT");
  char link[64];
  if (root == NULL) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, PATH_MAX - 1);
  if (n <= 0) return 0;
  path[n] = 0;
  size_t length = strlen(root);
  return strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

/* An inode alone is used again for the next file. */
static void key_of(int fd, const char *name, char *key) {
  struct statx st;
  int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);
  if (statx(fd, name, flags, STATX_INO | STATX_BTIME, &st) != 0) die("statx");
  snprintf(key, 64, "%llu.%lld.%u", (unsigned long long)st.stx_ino, (long long)st.stx_btime.tv_sec,
           st.stx_btime.tv_nsec);
}

static int has_text_of(const char *file, const char *path) {
  char text[256];
  int fd = file == NULL ? -1 : open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  text[n > 0 ? n : 0] = 0;
  size_t length = strlen(text), whole = strlen(path);
  if (length == 0 || text[length - 1] != '$') return strstr(path, text) != NULL;
  return whole >= length - 1 && strncmp(path + whole - (length - 1), text, length - 1) == 0;
}

static void shadow_name(char kind, const char *key, char *name) {
  snprintf(name, PATH_MAX, "%s/%c%s", getenv("DISK_SHADOW"), kind, key);
}

static size_t page_at(int fd, size_t page, char *into) {
  memset(into, 0, PAGE);
  ssize_t n = fd < 0 ? 0 : pread(fd, into, PAGE, (off_t)(page * PAGE));
  if (n < 0) die("pread");
  return (size_t)n;
}

static struct lost *lost_of(const char *key, int make) {
  for (int i = 0; i < MOST_LOST; i++) {
    if (lost[i].key[0] == 0 && make) strcpy(lost[i].key, key);
    if (strcmp(lost[i].key, key) == 0) return &lost[i];
  }
  if (make) die("too many files failed");
  return NULL;
}

/*
 * A descriptor for reading: the caller's own where it can be read, because closing another one of the same file would drop
 * the locks that SQLite holds on it.
 */
static int reader_of(int fd) {
  char link[64];
  if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY) return fd;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  int reader = open(link, O_RDONLY | O_CLOEXEC);
  if (reader < 0) die("open for reading");
  return reader;
}

static void lose(int fd, const char *key) {
  char name[PATH_MAX], live[PAGE], kept[PAGE];
  struct stat st;
  struct lost *mine = lost_of(key, 1);
  shadow_name('f', key, name);
  int reader = reader_of(fd), old = open(name, O_RDONLY | O_CLOEXEC);
  if (fstat(reader, &st) != 0) die("fstat");
  size_t pages = ((size_t)st.st_size + PAGE - 1) / PAGE;
  if (pages > mine->count) {
    mine->pages = realloc(mine->pages, pages);
    memset(mine->pages + mine->count, 0, pages - mine->count);
    mine->count = pages;
  }
  for (size_t i = 0; i < pages; i++) {
    page_at(reader, i, live);
    page_at(old, i, kept);
    if (memcmp(live, kept, PAGE) != 0) mine->pages[i] = 1;
  }
  any_lost = 1;
  if (reader != fd) close(reader);
  if (old >= 0) close(old);
}

static void keep_bytes(int fd, const char *key) {
  char name[PATH_MAX], fresh[PATH_MAX + 8], page[PAGE];
  struct lost *mine = lost_of(key, 0);
  shadow_name('f', key, name);
  snprintf(fresh, sizeof fresh, "%s.new", name);
  int reader = reader_of(fd), old = open(name, O_RDONLY | O_CLOEXEC);
  int out = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (out < 0) die("open in the shadow");
  for (size_t i = 0;; i++) {
    size_t size = page_at(reader, i, page);
    if (size == 0) break;
    if (mine != NULL && i < mine->count && mine->pages[i]) page_at(old, i, page);
    if (pwrite(out, page, size, (off_t)(i * PAGE)) != (ssize_t)size) die("write in the shadow");
  }
  close(out);
  if (reader != fd) close(reader);
  if (old >= 0) close(old);
  if (rename(fresh, name) != 0) die("rename in the shadow");
}

static void keep_names(int fd, const char *path, const char *key) {
  char name[PATH_MAX], fresh[PATH_MAX + 8], child[64];
  shadow_name('d', key, name);
  snprintf(fresh, sizeof fresh, "%s.new", name);
  DIR *folder = opendir(path);
  FILE *out = fopen(fresh, "we");
  if (folder == NULL || out == NULL) die("list a folder");
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    struct stat st;
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) continue;
    key_of(fd, entry->d_name, child);
    fprintf(out, "%c %s %o %u %s\n", S_ISDIR(st.st_mode) ? 'd' : 'f', child, st.st_mode & 07777, st.st_uid,
            entry->d_name);
  }
  closedir(folder);
  if (fclose(out) != 0 || rename(fresh, name) != 0) die("keep a list of names");
}

static int sync_one(int fd, const char *real_name) {
  char path[PATH_MAX], key[64];
  struct stat st;
  int saved = errno, failed = 0;
  if (!ours(fd, path) || fstat(fd, &st) != 0) {
    errno = saved;
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, real_name);
    return real(fd);
  }
  const char *lies = getenv("DISK_LIES");
  if (lies != NULL && strstr(path, lies) != NULL) return 0;
  pthread_mutex_lock(&turn);
  key_of(fd, "", key);
  failed = has_text_of(getenv("DISK_FAULTS"), path);
  if (failed && S_ISREG(st.st_mode)) lose(fd, key);
  if (!failed && S_ISREG(st.st_mode)) keep_bytes(fd, key);
  if (!failed && S_ISDIR(st.st_mode)) keep_names(fd, path, key);
  pthread_mutex_unlock(&turn);
  errno = failed ? EIO : saved;
  return failed ? -1 : 0;
}

int fsync(int fd) { return sync_one(fd, "fsync"); }
int fdatasync(int fd) { return sync_one(fd, "fdatasync"); }

/* What is written again after a failed sync is dirty again. */
static void written(int fd, off_t at, ssize_t size) {
  char path[PATH_MAX], key[64];
  int saved = errno;
  if (any_lost && size > 0 && at >= 0 && ours(fd, path)) {
    pthread_mutex_lock(&turn);
    key_of(fd, "", key);
    struct lost *mine = lost_of(key, 0);
    for (size_t i = (size_t)at / PAGE; mine != NULL && i <= (size_t)(at + size - 1) / PAGE && i < mine->count; i++)
      mine->pages[i] = 0;
    pthread_mutex_unlock(&turn);
  }
  errno = saved;
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
  static ssize_t (*real)(int, const void *, size_t, off64_t);
  if (real == NULL) real = (ssize_t(*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
  ssize_t n = real(fd, bytes, size, at);
  written(fd, at, n);
  return n;
}

ssize_t write(int fd, const void *bytes, size_t size) {
  static ssize_t (*real)(int, const void *, size_t);
  if (real == NULL) real = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
  ssize_t n = real(fd, bytes, size);
  if (any_lost && n > 0) {
    int saved = errno;
    off_t end = lseek(fd, 0, SEEK_CUR);
    errno = saved;
    written(fd, end - n, n);
  }
  return n;
}
