// The bootstrap against small checkouts and fake system programs: what it does, what it leaves alone, what it says.

import { spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { buildDist, distIsFresh } from './dist.mjs';
import { withLock } from './lock.mjs';
import { installModules, modulesAreFresh } from './modules.mjs';
import { buildNative, nativeIsFresh } from './native.mjs';
import { installSystem, missingPrograms } from './system.mjs';

const CHECKOUT = path.resolve(import.meta.dirname, '../..');
const isRoot = process.getuid?.() === 0;
const searchPath = process.env.PATH ?? '';
let root = '';
let bin = '';
let said: string[] = [];
const say = (line: string) => said.push(line);

beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'scriptorium-bootstrap-'));
  bin = path.join(root, 'fake-bin');
  said = [];
  mkdirSync(bin);
});

afterEach(() => {
  process.env.PATH = searchPath;
  rmSync(root, { recursive: true, force: true });
});

function write(file: string, text: string): void {
  mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
  writeFileSync(path.join(root, file), text);
}

function read(file: string): string {
  return readFileSync(path.join(root, file), 'utf8');
}

/** A program on a PATH that holds nothing else; it writes down how it was called. */
function fake(name: string, body = ''): void {
  writeFileSync(path.join(bin, name), `#!/bin/sh\necho "${name} $*" >> '${root}/calls'\n${body}\n`);
  chmodSync(path.join(bin, name), 0o755);
}

function calls(): string[] {
  return existsSync(path.join(root, 'calls')) ? read('calls').trim().split('\n') : [];
}

describe('modules', () => {
  const lock = (version: string) =>
    JSON.stringify({ packages: { '': {}, 'node_modules/typescript': { version } } });

  it('runs npm ci when nothing is installed, and not a second time', () => {
    write('package-lock.json', lock('7.0.2'));
    fake('npm');
    process.env.PATH = bin;
    installModules(root, say);
    installModules(root, say);
    expect(calls()).toHaveLength(1);
    expect(calls()[0]).toContain('npm ci');
    expect(modulesAreFresh(root)).toBe(true);
  });

  it('installs again when the lockfile changes, but not what an npm install has already brought', () => {
    write('package-lock.json', lock('7.0.2'));
    write('node_modules/.package-lock.json', lock('7.0.2').replace('"":{},', ''));
    fake('npm');
    process.env.PATH = bin;
    installModules(root, say);
    expect(calls()).toEqual([]);
    write('package-lock.json', lock('7.0.3'));
    expect(modulesAreFresh(root)).toBe(false);
    installModules(root, say);
    expect(calls()).toHaveLength(1);
  });

  it('fails with a sentence when npm fails, and leaves no stamp behind', () => {
    write('package-lock.json', lock('7.0.2'));
    fake('npm', 'exit 3');
    process.env.PATH = bin;
    expect(() => installModules(root, say)).toThrow('npm ci failed with exit code 3');
    expect(modulesAreFresh(root)).toBe(false);
  });
});

describe.skipIf(process.platform !== 'linux')('system packages', () => {
  it('touches no package manager when everything is there', () => {
    const disks = ['mkfs.btrfs', 'mkfs.ext4', 'zstd'];
    for (const name of ['bwrap', 'cc', 'git', 'nft', ...disks, 'apt-get']) fake(name);
    process.env.PATH = bin;
    installSystem(root, say);
    expect(missingPrograms()).toEqual([]);
    expect(calls()).toEqual([]);
  });

  it.runIf(isRoot)('refreshes once and installs exactly what is missing', () => {
    for (const name of ['git', 'apt-get']) fake(name);
    process.env.PATH = bin;
    installSystem(root, say);
    expect(calls().map((call) => call.replace(/ --?[a-z-]+/g, ''))).toEqual([
      'apt-get update',
      'apt-get install bubblewrap gcc nftables btrfs-progs e2fsprogs zstd libc6-dev',
    ]);
  });

  it.runIf(isRoot)(
    'says what to type when the install fails, and does not try again on the next start',
    () => {
      for (const name of ['git', 'cc']) fake(name);
      fake('apt-get', 'exit 100');
      process.env.PATH = bin;
      installSystem(root, say);
      const tried = calls().length;
      installSystem(root, say);
      expect(calls()).toHaveLength(tried);
      expect(said.at(-1)).toContain('please run as root: apt-get install');
      expect(said.at(-1)).toContain('bubblewrap');
    },
  );

  it.runIf(isRoot)('keeps the system from starting a database server of its own', () => {
    for (const name of ['apt-get', 'sh', 'mkdir']) fake(name);
    process.env.PATH = bin;
    installSystem(root, say, ['postgres']);
    expect(calls().at(-1)).toMatch(/^apt-get install .*postgresql$/);
    // Where the file is there, somebody has decided.
    const isDecided = existsSync('/etc/postgresql-common/createcluster.conf');
    expect(said.join().includes('create_main_cluster = false')).toBe(!isDecided);
    expect(calls().some((call) => call.startsWith('sh -c'))).toBe(!isDecided);
  });

  it('names what is missing where there is no package manager, and goes on', () => {
    process.env.PATH = bin;
    installSystem(root, say);
    expect(said).toEqual([
      expect.stringContaining('missing: bwrap, cc, git, nft, mkfs.btrfs, mkfs.ext4, zstd, libc'),
    ]);
  });
});

describe.skipIf(process.platform !== 'linux')('native programs', () => {
  it('fails on a warning and does not replace the program that is there', () => {
    write('native/guest.c', 'int main(void){return 0;}\n');
    buildNative(root, say);
    expect(nativeIsFresh(root)).toBe(true);
    const built = read('native/build/guest');
    write('native/guest.c', 'int main(void){int unused;return 1;}\n');
    expect(nativeIsFresh(root)).toBe(false);
    expect(() => buildNative(root, say)).toThrow('native/guest.c does not compile');
    expect(read('native/build/guest')).toBe(built);
    expect(nativeIsFresh(root)).toBe(false);
  });

  it('builds again when a header changes', () => {
    write('native/guest.h', '#define CODE 0\n');
    write('native/guest.c', '#include "guest.h"\nint main(void){return CODE;}\n');
    buildNative(root, say);
    write('native/guest.h', '#define CODE 1\n');
    expect(nativeIsFresh(root)).toBe(false);
  });

  it('says so and goes on where there is no compiler', () => {
    write('native/launch.c', 'int main(void){return 0;}\n');
    process.env.PATH = bin;
    buildNative(root, say);
    expect(said).toEqual([expect.stringContaining('no C compiler: native/build/launch not built')]);
  });
});

describe('dist', () => {
  beforeEach(() => {
    mkdirSync(path.join(root, 'node_modules'));
    for (const name of ['typescript', '@typescript', '@types', 'undici-types']) {
      symlinkSync(path.join(CHECKOUT, 'node_modules', name), path.join(root, 'node_modules', name));
    }
    for (const name of ['tsconfig.base.json', 'tsconfig.build.json', 'package.json', 'package-lock.json']) {
      writeFileSync(path.join(root, name), readFileSync(path.join(CHECKOUT, name)));
    }
    write('src/a.ts', "import { b } from './deep/b.ts';\nexport const a: number = b;\n");
    write('src/deep/b.ts', 'export const b = 1;\n');
    write('src/deep/prompt.md', 'Be brief.\n');
    write('src/a.test.ts', "throw new Error('a test is no part of dist');\n");
  });

  it('emits runnable modules and assets, no tests, and drops what lost its source', () => {
    buildDist(root, process.execPath, say);
    expect(read('dist/src/a.js')).toContain("from './deep/b.js'");
    expect(read('dist/src/deep/prompt.md')).toBe('Be brief.\n');
    expect(existsSync(path.join(root, 'dist/src/a.test.js'))).toBe(false);
    expect(distIsFresh(root)).toBe(true);

    rmSync(path.join(root, 'src/deep'), { recursive: true });
    write('src/a.ts', 'export const a = 2;\n');
    buildDist(root, process.execPath, say);
    expect(existsSync(path.join(root, 'dist/src/deep/b.js'))).toBe(false);
    expect(existsSync(path.join(root, 'dist/src/deep/prompt.md'))).toBe(false);
    expect(read('dist/src/a.js')).toContain('a = 2');
  });

  it('keeps the last good build when a source does not type-check, and says so again the next time', () => {
    buildDist(root, process.execPath, say);
    write('src/deep/b.ts', "export const b = 'not a number';\n");
    for (const _ of [1, 2])
      expect(() => buildDist(root, process.execPath, say)).toThrow('does not type-check');
    expect(read('dist/src/deep/b.js')).toContain('b = 1');
    expect(distIsFresh(root)).toBe(false);
  });
});

describe('the lock', () => {
  it('is taken over from a process that died, and given back when the work throws', () => {
    write('.bootstrap.lock', '999999999');
    expect(withLock(root, say, () => 'done')).toBe('done');
    const fails = () => {
      throw new Error('planted');
    };
    expect(() => withLock(root, say, fails)).toThrow('planted');
    expect(existsSync(path.join(root, '.bootstrap.lock'))).toBe(false);
  });
});

describe('a child', () => {
  const parent = (body: string) => {
    const url = path.join(import.meta.dirname, 'child.mjs');
    const code = `import { runToEnd } from '${url}'; await runToEnd(process.execPath, ['-e', ${JSON.stringify(body)}]);`;
    return spawn(process.execPath, ['--input-type=module', '-e', code], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
  };
  const codeOf = (child: ReturnType<typeof parent>) =>
    new Promise<number | null>((resolve) => child.once('exit', resolve));

  it('passes its exit code on', async () => {
    expect(await codeOf(parent('process.exit(7)'))).toBe(7);
  });

  it('receives the signal sent to us, and its answer to it is our exit code', async () => {
    const child = parent(
      "process.on('SIGTERM', () => process.exit(9)); setInterval(() => {}, 1000); console.log('up')",
    );
    await new Promise((resolve) => child.stdout.once('data', resolve));
    child.kill('SIGTERM');
    expect(await codeOf(child)).toBe(9);
  });

  it('that dies of a signal gives 128 and the number of the signal', async () => {
    expect(await codeOf(parent("process.kill(process.pid, 'SIGKILL')"))).toBe(137);
  });
});
