/*
 * Listing a folder tree inside the sandbox: never through a link, never deeper, longer or wider than asked.
 * Entries go out in PART frames: u8 type | u32 mode | u64 size | u64 mtimeMs | u16 length | path below the root.
 */
#ifndef SCRIPTORIUM_GUEST_WALK_H
#define SCRIPTORIUM_GUEST_WALK_H

#include "guest-files.h"
#include <dirent.h>

/* All paths together; the host's own messages have a cap, and escaping may make each byte six. */
enum { WALK_DEPTH = 64, WALK_SKIPS = 256, PART_SIZE = 128 << 10, WALK_PATHS = 6 << 20 };

struct walk {
  uint32_t id, entries_left, max_depth;
  char *skip[WALK_SKIPS + 1];
  char path[PATH_MAX];
  uint8_t *part;
  size_t part_used, path_bytes;
  uint8_t is_whole;
};

static void flush_part(struct walk *w) {
  if (w->part_used > 0) close_frame(PART, w->id, w->part_used);
  if (out_pending() > OUT_HIGH_WATER) send_all();
  w->part = open_frame(PART_SIZE);
  w->part_used = 0;
}

static int is_skipped(const struct walk *w, const char *name) {
  for (char *const *skip = w->skip; *skip != NULL; skip++)
    if (strcmp(*skip, name) == 0) return 1;
  return 0;
}

static void add_entry(struct walk *w, const struct stat *s, size_t path_size) {
  if (w->part_used + STAT_SIZE + 2 + path_size > PART_SIZE) flush_part(w);
  uint8_t *at = w->part + w->part_used;
  put_stat(at, s);
  at[STAT_SIZE] = (uint8_t)path_size, at[STAT_SIZE + 1] = (uint8_t)(path_size >> 8);
  memcpy(at + STAT_SIZE + 2, w->path, path_size);
  w->part_used += STAT_SIZE + 2 + path_size;
  w->entries_left--, w->path_bytes += path_size;
}

/* `length` is how much of w->path names this folder, below the root. */
static void walk_folder(struct walk *w, int folder, size_t length, uint32_t depth) {
  DIR *dir = fdopendir(folder);
  if (dir == NULL) {
    close(folder);
    w->is_whole = 0;
    return;
  }
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    struct stat s;
    size_t name = strlen(entry->d_name), size = length + (length > 0) + name;
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    if (fstatat(folder, entry->d_name, &s, AT_SYMLINK_NOFOLLOW) < 0) continue; /* removed meanwhile */
    if (S_ISDIR(s.st_mode) && is_skipped(w, entry->d_name)) continue;
    if (w->entries_left == 0 || size >= PATH_MAX || w->path_bytes > WALK_PATHS) {
      w->is_whole = 0;
      break;
    }
    if (length > 0) w->path[length] = '/';
    memcpy(w->path + size - name, entry->d_name, name);
    add_entry(w, &s, size);
    if (!S_ISDIR(s.st_mode)) continue;
    int below = depth + 1 < w->max_depth
                    ? openat(folder, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
                    : -1;
    if (below < 0) w->is_whole = 0; /* too deep, or unreadable */
    else walk_folder(w, below, size, depth + 1);
  }
  closedir(dir);
}

static void file_walk(uint32_t id, struct cursor *c) {
  static struct walk w;
  w.id = id, w.is_whole = 1, w.path_bytes = 0;
  w.entries_left = take_u32(c);
  w.max_depth = take_u32(c);
  if (w.max_depth > WALK_DEPTH) w.max_depth = WALK_DEPTH;
  char *path = take_string(c);
  take_strings(c, w.skip, WALK_SKIPS);
  take_end(c);
  int root = open(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
  if (root < 0) return reply_status(id, errno);
  w.part_used = 0;
  flush_part(&w);
  walk_folder(&w, root, 0, 0);
  flush_part(&w);
  uint8_t *at = open_frame(5);
  put_u32(at, 0);
  at[4] = w.is_whole;
  close_frame(REPLY, id, 5);
}

#endif
