/**
 * What a sandbox with a captured network must be answered: the stock of probes/network.c. There is no route out of its
 * namespace, and it belongs to nobody inside (S2). Numbers in brackets are rows of the first table of attempts.
 */
import type { Answers } from './kernel.ts';

/** By the errno that must be seen. */
export const namespaceAnswers: Answers = {
  // [11] the host's loopback is another one, and the listener's own address is no way to it
  ECONNREFUSED: ['tcp.host-loopback', 'tcp.listener', 'tcp.listener-2'],
  // [14] nothing but the gateway's own answers to queries; [18] the namespace belongs to its holder
  EPERM: [
    ...['udp.dns-elsewhere', 'udp.quic', 'udp.lite', 'udp.multicast', 'udp.broadcast'],
    ...['change.lo-down', 'change.route-remove', 'change.route-add', 'change.rule', 'change.link'],
    ...['change.transparent', 'change.mark', 'raw.icmp', 'raw.tcp'],
  ],
  ENETUNREACH: ['six.tcp', 'six.udp'],
  EINVAL: ['six.link-local'],
  EACCES: ['raw.ping', 'take.name-server', 'change.sysctl', 'change.forwarding'],
  EADDRINUSE: ['take.listener', 'take.listener-any'],
  EAFNOSUPPORT: ['raw.packet', 'change.nft', 'change.xfrm'],
};

/** [12] captured: the connection is the gateway's, and what is not allowed is its to refuse. */
export const namespaceCaptured = ['tcp.any', 'tcp.metadata', 'six.mapped'] as const;
