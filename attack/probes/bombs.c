/*
 * Takes more than it should get, and no more than it is told: what is not bounded costs the machine little.
 *
 *   bombs forks N      that many processes at once, named as argv[0] is
 *   bombs memory MIB   bombs memfd MIB   bombs disk MIB (of files below the working directory)   bombs files N
 *
 * Prints "refused ERRNO at N", or "unbounded N".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int refused(long at) {
  const char *why = strerrorname_np(errno);
  printf("refused %s at %ld\n", why == NULL ? "unknown" : why, at);
  return 0;
}

static int unbounded(long n) {
  printf("unbounded %ld\n", n);
  return 0;
}

static int forks(long count) {
  int pipes[2], answer = 0;
  if (pipe(pipes) < 0) return 2;
  long made = 0;
  for (; made < count; made++) {
    pid_t child = fork();
    if (child < 0) break;
    if (child == 0) {
      char byte;
      close(pipes[1]);
      _exit(read(pipes[0], &byte, 1) < 0);
    }
  }
  answer = made < count ? refused(made) : unbounded(made);
  close(pipes[1]);
  while (wait(NULL) > 0) {
  }
  return answer;
}

static int memory(long count) {
  for (long i = 0; i < count; i++) {
    char *block = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) return refused(i);
    memset(block, 1, 1 << 20);
  }
  return unbounded(count);
}

static int memfd(long count) {
  static char block[1 << 20];
  signal(SIGXFSZ, SIG_IGN);
  int fd = memfd_create("x", 0);
  for (long i = 0; i < count; i++)
    if (write(fd, block, sizeof block) < 0) return refused(i);
  return unbounded(count);
}

static int disk(long count) {
  enum { EACH = 64 };
  long made = 0;
  for (int file = 0; made < count; file++, made += EACH) {
    char name[32];
    snprintf(name, sizeof name, "bomb.%d", file);
    int fd = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0 || (errno = posix_fallocate(fd, 0, EACH << 20)) != 0) return refused(made);
    close(fd);
  }
  return unbounded(made);
}

static int files(long count) {
  for (long i = 0; i < count; i++)
    if (open("/dev/null", O_RDONLY) < 0) return refused(i);
  return unbounded(count);
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  long count = atol(argv[2]);
  setvbuf(stdout, NULL, _IONBF, 0);
  if (strcmp(argv[1], "forks") == 0) return forks(count);
  if (strcmp(argv[1], "memory") == 0) return memory(count);
  if (strcmp(argv[1], "memfd") == 0) return memfd(count);
  if (strcmp(argv[1], "disk") == 0) return disk(count);
  if (strcmp(argv[1], "files") == 0) return files(count);
  return 2;
}
