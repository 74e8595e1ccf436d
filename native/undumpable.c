/*
 * A Node add-on of one line: the process that loads it cannot be traced, and its memory not be read, by another process
 * of the same user (S1: the gateway holds secrets, and without root the host runs as the same user). Node has no prctl;
 * a launcher cannot do it, since exec makes a process dumpable again. No header of Node is needed for an entry without a value.
 */
#include <sys/prctl.h>

__attribute__((visibility("default"))) void *napi_register_module_v1(void *env, void *exports) {
  (void)env;
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  return exports;
}
