/*
 * The capture namespace of a sandbox, and the way of its sockets to the gateway (S2: no other way out).
 *
 *   netprep hold DIRFD NFT      makes a user and a network namespace in which every TCP connection but those to
 *                               127/8 reaches one listener, and holds it (netprep-hold.h)
 *   netprep relay FOLDER        child of the gateway: takes what holders present (netprep-relay.h)
 *   netprep probe NFT           makes the namespace, tries a captured connection, and says so
 *
 * Promises: the namespace has no interface but lo, so there is nothing to leave it by, whatever its rules say; whoever
 * joins it from a user namespace below has no capability over it; what cannot be made ends the program (S4).
 */
#define _GNU_SOURCE
#include "netprep-namespace.h"
#include "netprep-hold.h"
#include "netprep-relay.h"

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  if (argc == 4 && strcmp(argv[1], "hold") == 0) return hold(atoi(argv[2]), argv[3]);
  if (argc == 3 && strcmp(argv[1], "relay") == 0) return relay(argv[2]);
  if (argc == 3 && strcmp(argv[1], "probe") == 0) return probe(argv[2]);
  errno = EINVAL;
  fail("unknown arguments");
}
