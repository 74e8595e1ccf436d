/**
 * The command line of one sandbox: launch (native/launch.c), then bwrap, then the guest.
 *
 * Promises
 * - Nothing is ever mounted at or below a place the session can write (CVE-2026-87766: a link left there by one run
 *   made bwrap create folders on the host in the next).
 * - The session sees the host's /usr, a listed /etc, and its own folders; no other path of the host.
 * - Every writable mount is either the session's own folder or a tmpfs with a size.
 */
import { lstatSync, readlinkSync, statSync } from 'node:fs';
import path from 'node:path';
import type { OperatorBind, SessionFolders } from '../backend.ts';
import { type Limits, sandboxPaths } from '../executor.ts';
import { layerPath } from '../image/layers.ts';
import { hostEtc, synthesisedEtc } from './etc.ts';
import { type Trust, trustPaths } from './trust.ts';

export type BwrapOptions = {
  disableUserns: boolean;
};

export type CommandLine = {
  launch: string;
  bwrap: string;
  guest: string;
  node: string;
  etcFolder: string;
  folders: SessionFolders;
  binds: OperatorBind[];
  limits: Limits;
  procsFiles: string[];
  /** rlimits stand in for cgroups where there are none. */
  boundByRlimits: boolean;
  /** null: not root, so nothing is staged and the uid stays. */
  uid: number | null;
  options: BwrapOptions;
  layer?: { from: string; readOnly: boolean };
  /** Null: no network. `join`: arguments with which the launcher enters the capture namespace. */
  captured: { join: string[]; trust: Trust } | null;
  disk?: { mounts: string | null; owner: number | null };
};

const RPC_FD = 3;
const SECCOMP_FD = 4;
const GUEST_PATH = '/opt/scriptorium/guest';
/** Where the staging tmpfs goes in the launcher's private mount namespace; the host's own /mnt is not touched. */
const STAGE = '/mnt';

/** Where an operator's bind may not be: our own mounts, anything above them, anything below a writable one. */
const takenTargets = [
  ...[
    '/usr',
    '/bin',
    '/sbin',
    '/lib',
    '/lib32',
    '/lib64',
    '/libx32',
    '/etc',
    '/proc',
    '/dev',
    '/tmp',
    '/var',
    '/run',
  ],
  ...['/opt/scriptorium', layerPath, '/mnt/session', '/mnt', '/opt', '/home', '/workspace', '/sys'],
];

export class BadBind extends Error {
  override name = 'BadBind';
}

/** FROM:TO or FROM:TO:ro. Throws `BadBind` with the reason. */
export function parseBind(text: string): OperatorBind {
  const [from, to, mode, ...rest] = text.split(':');
  const isForm = from !== undefined && to !== undefined && rest.length === 0 && (mode ?? 'ro') === 'ro';
  if (!isForm) throw new BadBind(`--bind ${text}: must be FROM:TO or FROM:TO:ro`);
  const bind = { from, to, readOnly: mode === 'ro' };
  const problem = bindProblem(bind);
  if (problem !== null) throw new BadBind(`--bind ${text}: ${problem}`);
  return bind;
}

/** Says why a bind is refused, or null. `/mnt/x`, `/opt/x` and `/home/x` are fine; what is ours there is not. */
export function bindProblem(bind: OperatorBind): string | null {
  const { from, to } = bind;
  if (!path.isAbsolute(from) || statSync(from, { throwIfNoEntry: false }) === undefined)
    return `${from}: no such file or directory on this host`;
  if (!path.isAbsolute(to) || path.normalize(to) !== to || to === '/' || to.endsWith('/'))
    return `${to}: must be an absolute, normalised path inside`;
  for (const taken of takenTargets) {
    const isContainer = ['/mnt', '/opt', '/home'].includes(taken);
    if (to === taken || (!isContainer && to.startsWith(`${taken}/`)))
      return `${to}: ${taken} is the sandbox's own`;
  }
  if (to === sandboxPaths.home || to.startsWith(`${sandboxPaths.home}/`))
    return `${to}: the home is writable`;
  return null;
}

function baseSystem(ownTrust: boolean): string[] {
  const args = ['--ro-bind', '/usr', '/usr'];
  for (const name of ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32']) {
    const place = `/${name}`;
    const found = lstatSync(place, { throwIfNoEntry: false });
    if (found?.isSymbolicLink()) args.push('--symlink', readlinkSync(place), place);
    else if (found?.isDirectory()) args.push('--ro-bind', place, place);
  }
  for (const name of hostEtc(ownTrust)) args.push('--ro-bind', `/etc/${name}`, `/etc/${name}`);
  return args;
}

/** Half of the temporary space each: the sum is what the spec allows. */
function temporarySpace(limits: Limits): string[] {
  const half = String(Math.max(4096, Math.floor(limits.tmpBytes / 2)));
  const tmpfs = (place: string): string[] => ['--perms', '1777', '--size', half, '--tmpfs', place];
  return [
    ...tmpfs('/tmp'),
    ...tmpfs('/dev/shm'),
    '--dir',
    '/run',
    '--dir',
    '/var',
    '--symlink',
    '/tmp',
    '/var/tmp',
  ];
}

const namespaces = [
  ...['--unshare-all', '--unshare-user', '--uid', '1000', '--gid', '1000', '--hostname', 'sandbox'],
  ...['--as-pid-1', '--die-with-parent', '--new-session', '--cap-drop', 'ALL'],
];

function rlimits(limits: Limits, stand_in: boolean): string[] {
  const set = (name: string, value: number): string[] => ['--rlimit', `${name}=${Math.floor(value)}`];
  const always = [...set('core', 0), ...set('nofile', limits.openFiles), ...set('fsize', limits.fileBytes)];
  // Per process, and only private writable memory: the nearest thing without a cgroup.
  if (stand_in) always.push(...set('data', limits.memoryBytes));
  return always;
}

export function commandLine(c: CommandLine): string[] {
  const staged: string[] = [];
  const mounts: string[] = [];
  let count = 0;
  const mount = (from: string, to: string, readOnly: boolean, isOwn = false): void => {
    const name = `s${count++}`;
    if (c.uid !== null) staged.push(readOnly ? '--ro-bind' : isOwn ? '--own-bind' : '--bind', from, name);
    mounts.push(readOnly ? '--ro-bind' : '--bind', c.uid === null ? from : `${STAGE}/${name}`, to);
  };
  for (const name of synthesisedEtc(c.captured !== null))
    mount(path.join(c.etcFolder, name), `/etc/${name}`, true);
  mount(c.guest, GUEST_PATH, true);
  mount(c.node, `${sandboxPaths.ownTools}/node`, true);
  mount(c.folders.workspace, sandboxPaths.workspace, false, true);
  mount(c.folders.outputs, sandboxPaths.outputs, false, true);
  mount(c.folders.home, sandboxPaths.home, false, true);
  mount(c.folders.uploads, sandboxPaths.uploads, true);
  if (c.layer) mount(c.layer.from, layerPath, c.layer.readOnly);
  if (c.captured !== null)
    for (const name of ['bundle', 'authority'] as const)
      mount(c.captured.trust[name], trustPaths[name], true);
  for (const bind of c.binds) mount(bind.from, bind.to, bind.readOnly);
  const asRoot = c.uid === null ? [] : ['--stage', STAGE, ...staged, '--uid', String(c.uid)];
  const { mounts: diskMounts = null, owner = null } = c.disk ?? {};
  if (c.uid !== null && owner !== null) asRoot.push('--owner', String(owner));
  return [
    ...(diskMounts === null ? [] : ['--mounts', diskMounts]),
    ...c.procsFiles.flatMap((file) => ['--cgroup', file]),
    ...rlimits(c.limits, c.boundByRlimits),
    ...(c.captured?.join ?? []),
    ...asRoot,
    ...['--keep', String(RPC_FD), '--seccomp', String(SECCOMP_FD), '--', c.bwrap],
    ...namespaces,
    // Shares the capture namespace, which is of another user namespace: not even root inside has a right over it.
    ...(c.captured === null ? [] : ['--share-net']),
    ...(c.options.disableUserns ? ['--disable-userns'] : []),
    ...baseSystem(c.captured !== null),
    ...['--proc', '/proc', '--dev', '/dev'],
    ...temporarySpace(c.limits),
    ...mounts,
    ...[
      '--remount-ro',
      '/dev',
      '--remount-ro',
      '/',
      '--chdir',
      '/',
      '--seccomp',
      String(SECCOMP_FD),
      '--',
      GUEST_PATH,
      // Without a cgroup it is the guest that bounds processes: outside, all threads of the user would count.
      ...(c.boundByRlimits ? ['--nproc', String(Math.floor(c.limits.processes))] : []),
    ],
  ];
}
