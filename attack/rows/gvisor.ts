/**
 * gVisor's kernel says some of it in other words. What is `done` is its own, of the sandbox alone: PID 1 of one's own uid
 * can be looked at (it is empty, and its memory closed), and devices and /sys are its own make.
 */
import type { Answers } from './kernel.ts';

export const gvisorAnswers: Answers = {
  ...{ 'lo.down': ['ENOTTY'], 'route.add': ['ENOTTY'], 'setuid.root': ['EPERM'], sysrq: ['EACCES'] },
  ...{
    'connect.metadata': ['EHOSTUNREACH'],
    'connect.internet': ['EHOSTUNREACH'],
    'send.udp': ['EHOSTUNREACH'],
  },
  ...{ 'init.environ': ['done'], 'init.maps': ['done'], 'init.fd': ['done'], 'supervisor.fd': ['done'] },
  ...{ 'dev.fuse': ['done'], 'dev.tun': ['done'], 'host.sys': ['done'] },
  ...{
    'create.root': ['EACCES'],
    'create.dev': ['EACCES'],
    'create.usr': ['EACCES'],
    'create.etc': ['EACCES'],
  },
  ...{ 'create.run': ['EACCES'], 'write.uploads': ['EACCES'] },
  ...{ drop_caches: ['ENOENT'], core_pattern: ['ENOENT'], panic: ['ENOENT'] },
};

/** Options of sockets that its own network stack takes and that mean nothing outside of it are `done`. */
export const gvisorNamespaceAnswers: Answers = {
  ...{ 'udp.lite': ['EAFNOSUPPORT'], 'change.lo-down': ['ENOTTY'], 'change.sysctl': ['ENOENT'] },
  ...{ 'change.route-remove': ['EACCES'], 'change.route-add': ['EACCES'] },
  ...{ 'change.rule': ['EACCES'], 'change.link': ['EACCES'] },
  ...{ 'change.transparent': ['done'], 'change.mark': ['done'] },
};
