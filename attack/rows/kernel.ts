/**
 * What the kernel must answer in a sandbox without a network: the stock of probes/kernel.c, an answer a name. Numbers in
 * brackets are rows of the table of escape attempts that this list began with (docs/operations/attack.md).
 *
 * Promises: S2 (no way out), S3 (nothing of the host is there), S5 (nothing reaches beyond its own processes).
 */
import { existsSync } from 'node:fs';

export type Answers = Record<string, readonly string[]>;

const isX64 = process.arch === 'x64';

/** By the errno that must be seen. */
export const kernelAnswers: Answers = {
  EPERM: [
    // [1] [2] [3] mounting, namespaces, devices
    ...['mount.tmpfs', 'mount.bind', 'remount.root', 'umount', 'pivot_root', 'chroot', 'open_tree'],
    ...['move_mount', 'fsopen', 'mount_setattr', 'mknod.block', 'mknod.char'],
    ...['unshare.user', 'unshare.mount', 'unshare.net', 'unshare.time', 'clone.user', 'clone.pid', 'setns'],
    // [7] PID 1 and the supervisors
    ...['ptrace.init', 'ptrace.supervisor', 'vm_read.init', 'vm_write.supervisor', 'pidfd_getfd'],
    // [22] kernel attack surface, [23] typing into terminals, [24] the kernel's log, the keyring
    ...['io_uring_setup', 'bpf', 'userfaultfd', 'perf_event_open', 'open_by_handle_at', 'name_to_handle_at'],
    ...['fanotify_init', 'kexec_load', 'init_module', 'finit_module', 'delete_module'],
    ...['add_key', 'request_key', 'keyctl', 'syslog', 'swapon', 'reboot', 'settimeofday', 'sethostname'],
    ...['acct', 'quotactl', 'setgroups', 'personality'],
    ...['ioctl.tiocsti', 'ioctl.tiocsti-high', 'ioctl.tioclinux', 'rlimit.nofile', 'rlimit.core'],
    // [18] [19] the network belongs to a namespace without capabilities
    ...['lo.down', 'route.add', 'socket.raw', 'socket.raw6'],
    ...(isX64 ? ['x32'] : []),
  ],
  ENOSYS: ['clone3', 'future-call'],
  EINVAL: ['setuid.root'],
  // [19] [20] families that no namespace covers, or that nobody needs
  EAFNOSUPPORT: [
    ...['socket.vsock', 'socket.packet', 'socket.alg', 'socket.bluetooth', 'socket.can', 'socket.tipc'],
    ...['socket.xdp', 'socket.key', 'socket.netfilter', 'socket.audit', 'socketpair.tipc'],
  ],
  // [11] [12] nothing is reachable
  ECONNREFUSED: ['connect.host-loopback', 'connect.host-abstract'],
  ENETUNREACH: ['connect.metadata', 'connect.internet', 'send.udp'],
  // [4] [5] [7] [36] PID 1 cannot be looked into
  EACCES: [
    ...['init.exe', 'init.cwd', 'init.root', 'init.environ', 'init.mem', 'init.maps', 'init.fd'],
    ...['supervisor.fd', 'init.oom'],
  ],
  EBADF: ['rpc.fd'],
  // [24] [37] what is not there
  ENOENT: [
    ...['dev.mem', 'dev.kmsg', 'dev.kvm', 'dev.fuse', 'dev.tun', 'dev.vda'],
    ...['host.root-home', 'host.shadow', 'host.var', 'host.sys', 'host.docker'],
  ],
  // [39] the base
  EROFS: [
    ...['create.root', 'create.dev', 'create.usr', 'create.etc', 'create.run', 'write.uploads'],
    'rename.workspace',
  ],
};

/** What a kernel may have been built without. */
const orAbsent = (file: string): string[] => (existsSync(file) ? ['EACCES', 'EROFS'] : ['ENOENT']);

/** Where more than one answer is a refusal. */
export const kernelChoices: Answers = {
  // [26]
  ...{ drop_caches: ['EACCES', 'EROFS'], core_pattern: ['EACCES', 'EROFS'], panic: ['EACCES', 'EROFS'] },
  ...{ sysrq: orAbsent('/proc/sysrq-trigger'), kcore: orAbsent('/proc/kcore') },
  // [39]
  'write.git': ['EACCES', 'EROFS'],
  'write.certificates': ['EACCES', 'EROFS'],
  'write.passwd': ['EACCES', 'EROFS'],
  // Programs that run are busy before they are read-only, where it is our own uid that owns them.
  'write.node': ['EACCES', 'EROFS', 'ETXTBSY'],
  'write.guest': ['EACCES', 'EROFS', 'ETXTBSY'],
};

/** What programs need and therefore have: tried beside the others, so that a refusal of everything is seen. */
export const kernelAllowed = ['socket.inet', 'socket.route', 'socket.unix'] as const;
