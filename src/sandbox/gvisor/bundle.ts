/**
 * What runsc is told of one sandbox: an OCI bundle with the mounts of the bubblewrap backend, and its command line.
 *
 * Promises
 * - The session sees the host's /usr, a listed /etc, and its own folders; no other path of the host.
 * - The root is a folder of ours that holds mount points and nothing else, read-only; every writable mount is the
 *   session's own folder or a tmpfs with a size. Mount points are made before anything of the session's is there.
 */
import { lstatSync, mkdirSync, readlinkSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { OperatorBind, SessionFolders, StartRequest } from '../backend.ts';
import { type Limits, sandboxPaths } from '../executor.ts';
import { layerPath } from '../image/layers.ts';
import { hostEtc, synthesisedEtc } from '../local/etc.ts';
import { type Trust, trustPaths } from '../local/trust.ts';

export type BundleRequest = {
  /** Empty folders of the host: `bundle` holds the configuration and the root, `run` is runsc's own. */
  bundle: string;
  run: string;
  guest: string;
  launch: string;
  node: string;
  etcFolder: string;
  folders: SessionFolders;
  binds: OperatorBind[];
  disk?: StartRequest['disk'];
  layer?: StartRequest['layer'];
  limits: Limits;
  /** null: not root, so nothing is staged and there is one user inside, 0. */
  uid: number | null;
  /** Null: no network. */
  captured: { join: string[]; trust: Trust } | null;
};

type Mount = {
  from: string;
  to: string;
  readOnly: boolean;
  /** Of the session's disk, whose files may be another user's on disk. */
  isOwn?: boolean;
  /** Where they are staged they are part of the root: each mount of gVisor's own costs time, and this caches better. */
  isBase?: boolean;
};

const RPC_FD = 3;
const GUEST_PATH = '/opt/scriptorium/guest';
const LAUNCH_PATH = '/opt/scriptorium/launch';
/** In the launcher's private mount namespace; the host's own /mnt is not touched. */
const STAGE = '/mnt';
/** The supervisors of sessions, which are gVisor's kernel, have uids of their own, above every session's. */
const SUPERVISOR_OFFSET = 1_000_000;

export function supervisorOf(uid: number): number {
  return uid + SUPERVISOR_OFFSET;
}

/** Writes the bundle and returns the launcher's arguments, up to and with those of runsc. */
export function writeBundle(name: string, runsc: string, r: BundleRequest): string[] {
  const mounts = mountsOf(r);
  const isStaged = r.uid !== null;
  makeRoot(path.join(r.bundle, 'rootfs'), mounts);
  const names = mounts.map(({ to, isBase }, i) => (isBase ? `bundle/rootfs${to}` : `m${i}`));
  const seen = mounts
    .map((mount, i) => (isStaged ? { ...mount, from: `${STAGE}/${names[i]}` } : mount))
    .filter(({ isBase }) => !(isStaged && isBase));
  writeFileSync(path.join(r.bundle, 'config.json'), JSON.stringify(configOf(r, seen)), { mode: 0o644 });
  const staged = mounts.flatMap(({ from, readOnly, isOwn }, i) => [
    readOnly ? '--ro-bind' : isOwn ? '--own-bind' : '--bind',
    from,
    names[i] as string,
  ]);
  const { mounts: diskMounts = null, owner = null } = r.disk ?? {};
  const asRoot =
    r.uid === null
      ? []
      : [
          ...['--stage', STAGE, '--ro-bind', r.bundle, 'bundle', '--bind', r.run, 'run', ...staged],
          ...['--uid', String(r.uid), '--supervisor', String(supervisorOf(r.uid))],
          ...(owner === null ? [] : ['--owner', String(owner)]),
        ];
  return [
    ...(diskMounts === null ? [] : ['--mounts', diskMounts]),
    ...(r.captured?.join ?? []),
    ...asRoot,
    ...['--die-with-parent', '--keep', String(RPC_FD), '--', runsc],
    ...(isStaged ? [] : ['--rootless']),
    ...['--root', isStaged ? `${STAGE}/run` : r.run, '--platform', 'systrap', '--ignore-cgroups'],
    // In the capture namespace there is nothing to reach but the gateway, whoever asks its kernel.
    ...['--network', r.captured === null ? 'none' : 'host', '--overlay2', 'none'],
    ...['run', '--pass-fd', `${RPC_FD}:${RPC_FD}`],
    ...['--bundle', isStaged ? `${STAGE}/bundle` : r.bundle, name],
  ];
}

function mountsOf(r: BundleRequest): Mount[] {
  const mounts: Mount[] = [];
  const base = (from: string, to: string): void => {
    mounts.push({ from, to, readOnly: true, isBase: true });
  };
  const mount = (from: string, to: string, readOnly: boolean, isOwn = false): void => {
    mounts.push({ from, to, readOnly, isOwn });
  };
  base('/usr', '/usr');
  for (const name of systemFolders()) if (!isLink(`/${name}`)) base(`/${name}`, `/${name}`);
  for (const name of hostEtc(r.captured !== null)) base(`/etc/${name}`, `/etc/${name}`);
  for (const name of synthesisedEtc(r.captured !== null)) base(path.join(r.etcFolder, name), `/etc/${name}`);
  base(r.guest, GUEST_PATH);
  base(r.launch, LAUNCH_PATH);
  base(r.node, `${sandboxPaths.ownTools}/node`);
  mount(r.folders.workspace, sandboxPaths.workspace, false, true);
  mount(r.folders.outputs, sandboxPaths.outputs, false, true);
  mount(r.folders.home, sandboxPaths.home, false, true);
  mount(r.folders.uploads, sandboxPaths.uploads, true);
  if (r.layer) mount(r.layer.from, layerPath, r.layer.readOnly);
  if (r.captured !== null)
    for (const name of ['bundle', 'authority'] as const)
      mount(r.captured.trust[name], trustPaths[name], true);
  for (const bind of r.binds) mount(bind.from, bind.to, bind.readOnly);
  return mounts;
}

const isLink = (place: string): boolean => lstatSync(place).isSymbolicLink();

function systemFolders(): string[] {
  return ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32'].filter(
    (name) => lstatSync(`/${name}`, { throwIfNoEntry: false }) !== undefined,
  );
}

/** Below another mount nothing need be made: what is mounted there has it. */
function makeRoot(root: string, mounts: Mount[]): void {
  for (const name of ['proc', 'sys', 'dev', 'tmp', 'run', 'var'])
    mkdirSync(path.join(root, name), { recursive: true, mode: 0o755 });
  symlinkSync('/tmp', path.join(root, 'var/tmp'));
  for (const name of systemFolders())
    if (isLink(`/${name}`)) symlinkSync(readlinkSync(`/${name}`), path.join(root, name));
  mounts.forEach(({ from, to, isOwn }, i) => {
    if (mounts.slice(0, i).some((other) => to.startsWith(`${other.to}/`))) return;
    const place = path.join(root, to);
    const isFolder = isOwn === true || statSync(from).isDirectory();
    mkdirSync(isFolder ? place : path.dirname(place), { recursive: true, mode: 0o755 });
    if (!isFolder) writeFileSync(place, '', { mode: 0o644 });
  });
}

function configOf(r: BundleRequest, mounts: Mount[]): object {
  const isStaged = r.uid !== null;
  const user = isStaged ? 1000 : 0;
  const namespaces = ['pid', 'mount', 'ipc', 'uts', ...(r.captured === null ? ['network'] : [])];
  return {
    ociVersion: '1.0.0',
    process: {
      terminal: false,
      user: { uid: user, gid: user },
      args: [
        ...[LAUNCH_PATH, '--filter', isStaged ? 'gvisor' : 'gvisor-root', '--keep', String(RPC_FD)],
        ...['--', GUEST_PATH],
      ],
      env: [],
      cwd: '/',
      capabilities: {},
      noNewPrivileges: true,
      rlimits: rlimitsOf(r.limits),
    },
    root: { path: 'rootfs', readonly: true },
    hostname: 'sandbox',
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      // Read-only its devices could not be written to, either.
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=0755', 'size=65536'] },
      ...temporarySpace(r.limits),
      ...mounts.map(({ from, to, readOnly }) => ({
        ...{ destination: to, type: 'bind', source: from },
        options: ['rbind', 'nosuid', 'nodev', readOnly ? 'ro' : 'rw'],
      })),
    ],
    linux: {
      namespaces: namespaces.map((type) => ({ type })),
      resources: { memory: { limit: r.limits.memoryBytes } },
    },
  };
}

/** Half each, as with bubblewrap. */
function temporarySpace(limits: Limits): object[] {
  const half = Math.max(4096, Math.floor(limits.tmpBytes / 2));
  return ['/tmp', '/dev/shm'].map((destination) => ({
    ...{ destination, type: 'tmpfs', source: 'tmpfs' },
    options: ['nosuid', 'nodev', 'mode=1777', `size=${half}`],
  }));
}

function rlimitsOf(limits: Limits): object[] {
  const set = (type: string, value: number) => ({ type, soft: Math.floor(value), hard: Math.floor(value) });
  return [
    set('RLIMIT_CORE', 0),
    set('RLIMIT_NOFILE', limits.openFiles),
    set('RLIMIT_FSIZE', limits.fileBytes),
    set('RLIMIT_NPROC', limits.processes),
  ];
}
