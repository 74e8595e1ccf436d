// Step (b): the programs that the sandbox, the native build and the tests need, from the system's own package manager.
// Missing programs are not fatal here: what needs them says so (a sandbox without bwrap refuses to start).

import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { findProgram, output, readOrUndefined, run, writeStamp } from './machine.mjs';

const RETRY_AFTER_MS = 10 * 60_000;

/** Which package brings what, per package manager. `libc` stands for the static C library and its headers. */
const MANAGERS = [
  {
    program: 'apt-get',
    refresh: ['update', '-qq'],
    install: ['install', '-y', '-qq', '--no-install-recommends'],
    packages: {
      bwrap: 'bubblewrap',
      cc: 'gcc',
      libc: 'libc6-dev',
      git: 'git',
      nft: 'nftables',
      'mkfs.btrfs': 'btrfs-progs',
      'mkfs.ext4': 'e2fsprogs',
      zstd: 'zstd',
      postgres: 'postgresql',
    },
    prepare: { postgres: keepFromCreatingACluster },
  },
  {
    program: 'dnf',
    install: ['install', '-y', '-q', '--setopt=install_weak_deps=False'],
    packages: {
      bwrap: 'bubblewrap',
      cc: 'gcc',
      libc: 'glibc-devel glibc-static',
      git: 'git-core',
      nft: 'nftables',
      'mkfs.btrfs': 'btrfs-progs',
      'mkfs.ext4': 'e2fsprogs',
      zstd: 'zstd',
      postgres: 'postgresql-server',
    },
  },
  {
    program: 'apk',
    install: ['add', '--no-cache', '--quiet'],
    packages: {
      bwrap: 'bubblewrap',
      cc: 'gcc',
      libc: 'musl-dev linux-headers',
      git: 'git',
      nft: 'nftables',
      'mkfs.btrfs': 'btrfs-progs',
      'mkfs.ext4': 'e2fsprogs',
      zstd: 'zstd tar',
      postgres: 'postgresql',
    },
  },
  {
    program: 'pacman',
    install: ['-S', '--needed', '--noconfirm', '--quiet'],
    packages: {
      bwrap: 'bubblewrap',
      cc: 'gcc',
      libc: 'glibc linux-api-headers',
      git: 'git',
      nft: 'nftables',
      'mkfs.btrfs': 'btrfs-progs',
      'mkfs.ext4': 'e2fsprogs',
      zstd: 'zstd',
      postgres: 'postgresql',
    },
  },
];

/** Linux only: elsewhere there is no sandbox of ours to prepare. */
export function missingPrograms() {
  if (process.platform !== 'linux') return [];
  const needed = ['bwrap', 'cc', 'git', 'nft', 'mkfs.btrfs', 'mkfs.ext4', 'zstd'];
  const missing = needed.filter((name) => findProgram(name) === undefined);
  return missing.includes('cc') ? [...missing, 'libc'] : missing;
}

/** What the tests need besides: the programs of a Postgres server, which they start themselves. */
export function missingTestPrograms() {
  if (process.platform !== 'linux') return [];
  return findProgram('initdb') === undefined && debianServers().length === 0 ? ['postgres'] : [];
}

/** Debian keeps the server's programs off PATH, a folder per version. */
function debianServers() {
  const folder = '/usr/lib/postgresql';
  const versions = existsSync(folder) ? readdirSync(folder) : [];
  return versions.filter((version) => existsSync(path.join(folder, version, 'bin', 'initdb')));
}

/**
 * Debian's package makes a cluster and starts it when it is installed, on a machine that only wanted the programs. This
 * file is where it asks whether to; one that is there already is somebody's decision.
 */
function keepFromCreatingACluster(prefix, say) {
  const file = '/etc/postgresql-common/createcluster.conf';
  if (existsSync(file)) return;
  say(`no database server of the system's own: writing create_main_cluster = false to ${file}`);
  const script = `mkdir -p ${path.dirname(file)} && echo 'create_main_cluster = false' > ${file}`;
  const [program, ...rest] = [...prefix, 'sh', '-c', script];
  run(program, rest);
}

/** Whether `cc -static` can link here. A compiler alone does not bring the library. */
export function hasStaticLibc() {
  const file = output('cc', ['-print-file-name=libc.a']);
  return file !== undefined && path.isAbsolute(file) && existsSync(file);
}

/** Installs what is missing. Says what it does; where it cannot, says what to type, and lets the caller go on. */
export function installSystem(root, say, missing = missingPrograms()) {
  if (missing.length === 0) return;
  const manager = MANAGERS.find((candidate) => findProgram(candidate.program) !== undefined);
  if (manager === undefined) {
    say(`missing: ${missing.join(', ')}; no package manager that I know is here, please install them`);
    return;
  }
  const packages = [...new Set(missing.flatMap((name) => manager.packages[name].split(' ')))];
  const typed = `${manager.program} ${manager.install.join(' ')} ${packages.join(' ')}`;
  const prefix = rootPrefix();
  if (prefix === undefined || failedLately(root, typed)) {
    say(`missing: ${missing.join(', ')}; please run as root: ${typed}`);
    return;
  }
  say(`installing system packages: ${[...prefix, typed].join(' ')}`);
  for (const name of missing) manager.prepare?.[name]?.(prefix, say);
  if (!install(manager, packages, prefix)) {
    writeStamp(root, 'system-failed', typed);
    say(`that failed; please run as root: ${typed}`);
  }
}

function install(manager, packages, prefix) {
  const options = { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } };
  const command = (args) => {
    const [program, ...rest] = [...prefix, manager.program, ...args];
    return run(program, rest, options) === 0;
  };
  // A failed refresh is no reason to stop: the lists at hand may do, and if not the install says why.
  if (manager.refresh !== undefined) command(manager.refresh);
  return command([...manager.install, ...packages]);
}

/** How to become root without asking anybody: [] when we are, sudo when it needs no password, else undefined. */
function rootPrefix() {
  if (process.getuid?.() === 0) return [];
  if (findProgram('sudo') === undefined) return undefined;
  return run('sudo', ['-n', 'true'], { stdio: 'ignore' }) === 0 ? ['sudo', '-n'] : undefined;
}

/** An install that just failed (no network, say) is not tried again on every start. */
function failedLately(root, typed) {
  const file = path.join(root, 'node_modules', '.scriptorium-system-failed');
  if (readOrUndefined(file) !== typed) return false;
  return Date.now() - statSync(file).mtimeMs < RETRY_AFTER_MS;
}
