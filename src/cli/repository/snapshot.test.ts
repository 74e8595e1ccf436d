// Real git, real repositories of every awkward kind; and that the user's own repository stays byte for byte as it was.
import type { StdioOptions } from 'node:child_process';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, expect, it } from 'vitest';
import type { Snapshot, SnapshotOptions } from './snapshot.ts';
import { takeSnapshot } from './snapshot.ts';

const folders: string[] = [];
const environment = { ...process.env };
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
  for (const name of Object.keys(process.env)) if (!(name in environment)) delete process.env[name];
});

function folder(): string {
  const made = mkdtempSync(path.join(tmpdir(), 'snap shot-'));
  folders.push(made);
  return made;
}

const identity = ['-c', 'user.name=U', '-c', 'user.email=u@example.com', '-c', 'protocol.file.allow=always'];

function git(cwd: string, ...args: string[]): string {
  const env: NodeJS.ProcessEnv = { PATH: process.env.PATH, HOME: '/nonexistent', GIT_CONFIG_NOSYSTEM: '1' };
  const stdio: StdioOptions = ['ignore', 'pipe', 'pipe'];
  return execFileSync('git', [...identity, ...args], { cwd, env, encoding: 'utf8', stdio }).replace(
    /\n$/,
    '',
  );
}

function put(root: string, files: Record<string, string>): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
    writeFileSync(path.join(root, name), content);
  }
}

function repository(files: Record<string, string> = { 'a.txt': 'one\n', '.gitignore': 'ignored\n' }): string {
  const root = folder();
  git(root, 'init', '-q', '-b', 'main');
  put(root, files);
  git(root, 'add', '-A');
  git(root, 'commit', '-q', '-m', 'first');
  return root;
}

/** Everything in .git and the working tree: what must not change. Git may renew the time of an object it borrows. */
function fingerprint(root: string): string {
  const lines: string[] = [];
  const visit = (at: string) => {
    for (const entry of readdirSync(at, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const file = path.join(at, entry.name);
      if (entry.isDirectory()) visit(file);
      else if (entry.isSymbolicLink()) lines.push(`${file} -> ${readlinkSync(file)}`);
      else {
        const time = file.includes('/.git/objects/') ? '' : statSync(file).mtimeMs;
        lines.push(`${file} ${time} ${createHash('sha1').update(readFileSync(file)).digest('hex')}`);
      }
    }
  };
  visit(root);
  return lines.join('\n');
}

async function taken(root: string, options?: SnapshotOptions): Promise<Snapshot> {
  const result = await takeSnapshot(root, options);
  if (!result.ok) throw new Error(result.message);
  folders.push(path.dirname(result.snapshot.bundlePath));
  return result.snapshot;
}

/** What a receiver sees: the tree of the snapshot as `mode path` lines, and a way to read files. */
function received(snapshot: Snapshot) {
  const into = folder();
  const format = snapshot.snapshotCommit.length === 64 ? ['--object-format=sha256'] : [];
  git(into, 'init', '-q', ...format);
  git(into, 'bundle', 'unbundle', snapshot.bundlePath);
  const shallow = git(into, 'bundle', 'list-heads', snapshot.bundlePath).match(
    /^(\w+) refs\/scriptorium\/shallow$/m,
  )?.[1];
  if (shallow)
    writeFileSync(path.join(into, '.git', 'shallow'), `${git(into, 'cat-file', 'blob', shallow)}\n`);
  const tree = git(into, 'ls-tree', '-r', '-z', snapshot.snapshotCommit)
    .split('\0')
    .filter(Boolean)
    .map((entry) => `${entry.slice(0, 6)} ${entry.slice(entry.indexOf('\t') + 1)}`);
  const show = (name: string) => git(into, 'cat-file', 'blob', `${snapshot.snapshotCommit}:${name}`);
  const count = (commit: string) => Number(git(into, 'rev-list', '--count', commit));
  return { tree, show, count, into };
}

it('takes uncommitted and untracked files as they are and leaves the repository byte for byte alone', async () => {
  const root = repository();
  put(root, { 'a.txt': 'two\n', 'new/un tracked\nüñí.txt': 'x', ignored: 'secret', staged: 'staged' });
  git(root, 'add', 'staged');
  put(root, { staged: 'staged, then changed' });
  chmodSync(path.join(root, 'a.txt'), 0o755);
  symlinkSync('/etc/passwd', path.join(root, 'link'));
  const before = fingerprint(root);
  const snapshot = await taken(root);
  expect(fingerprint(root)).toBe(before);
  const { tree, show, count } = received(snapshot);
  expect(tree.sort()).toEqual([
    '100644 .gitignore',
    '100644 new/un tracked\nüñí.txt',
    '100644 staged',
    '100755 a.txt',
    '120000 link',
  ]);
  expect(show('a.txt')).toBe('two');
  expect(show('staged')).toBe('staged, then changed');
  expect(show('link')).toBe('/etc/passwd');
  expect(count(snapshot.snapshotCommit)).toBe(2);
  expect(snapshot).toMatchObject({ branch: 'main', head: git(root, 'rev-parse', 'HEAD'), notices: [] });
  await snapshot.dispose();
  expect(existsSync(snapshot.bundlePath)).toBe(false);
});

it('has no snapshot commit of its own for a clean working tree', async () => {
  const root = repository();
  const snapshot = await taken(root);
  expect(snapshot.snapshotCommit).toBe(git(root, 'rev-parse', 'HEAD'));
});

it('sees a change of the same size made in the same moment as the last commit', async () => {
  const root = repository();
  put(root, { 'a.txt': 'ONE\n' });
  const index = statSync(path.join(root, '.git', 'index'));
  utimesSync(path.join(root, 'a.txt'), index.atime, index.mtime);
  expect(received(await taken(root)).show('a.txt')).toBe('ONE');
});

it('takes a repository without commits', async () => {
  const root = folder();
  git(root, 'init', '-q', '-b', 'trunk');
  put(root, { 'a.txt': 'x' });
  const snapshot = await taken(root);
  expect(snapshot).toMatchObject({ head: null, branch: 'trunk' });
  expect(received(snapshot).tree).toEqual(['100644 a.txt']);
});

it('takes a repository with nothing in it at all', async () => {
  const root = folder();
  git(root, 'init', '-q');
  expect(received(await taken(root)).tree).toEqual([]);
});

it('takes a detached HEAD, a subdirectory and a linked worktree', async () => {
  const root = repository({ 'a.txt': 'one\n', 'sub/b.txt': 'b' });
  git(root, 'worktree', 'add', '-q', '-b', 'other', path.join(root, '..', `${path.basename(root)}-tree`));
  const linked = `${root}-tree`;
  folders.push(linked);
  put(linked, { 'a.txt': 'in the worktree\n' });
  const inTree = await taken(linked);
  expect(inTree.branch).toBe('other');
  expect(received(inTree).show('a.txt')).toBe('in the worktree');
  git(root, 'switch', '-q', '--detach');
  const detached = await taken(path.join(root, 'sub'));
  expect(detached).toMatchObject({ branch: null, root });
  expect(detached.notices.join()).toContain('starts at its top');
  expect(received(detached).tree).toEqual(['100644 a.txt', '100644 sub/b.txt']);
});

it('is not led astray by GIT_ variables that a hook or a shell has set', async () => {
  const root = repository();
  const other = repository({ 'other.txt': 'x' });
  process.env.GIT_DIR = path.join(other, '.git');
  process.env.GIT_INDEX_FILE = path.join(other, '.git', 'index');
  process.env.GIT_WORK_TREE = other;
  process.env.GIT_OBJECT_DIRECTORY = '/nonexistent';
  const snapshot = await taken(root);
  for (const name of ['GIT_DIR', 'GIT_INDEX_FILE', 'GIT_WORK_TREE', 'GIT_OBJECT_DIRECTORY'])
    delete process.env[name];
  expect(received(snapshot).tree).toEqual(['100644 .gitignore', '100644 a.txt']);
});

it('needs no git identity', async () => {
  const root = repository();
  put(root, { 'a.txt': 'dirty' });
  process.env.GIT_CONFIG_GLOBAL = '/dev/null';
  process.env.GIT_CONFIG_NOSYSTEM = '1';
  const snapshot = await taken(root);
  const { into } = received(snapshot);
  expect(git(into, 'log', '-1', '--format=%an %s', snapshot.snapshotCommit)).toBe(
    'Scriptorium Your uncommitted work when the session started',
  );
});

it('runs no hook and no filter of Git LFS', async () => {
  const root = repository({ 'a.txt': 'one\n', '.gitattributes': '*.bin filter=lfs\n' });
  put(root, { 'pointer.bin': 'version https://git-lfs.github.com/spec/v1\n' });
  git(root, 'add', '-A');
  git(root, 'commit', '-q', '-m', 'pointer');
  const canary = path.join(root, '.git', 'canary');
  for (const key of ['clean', 'process']) git(root, 'config', `filter.lfs.${key}`, `touch '${canary}'`);
  git(root, 'config', 'filter.lfs.required', 'true');
  git(root, 'config', 'core.fsmonitor', `touch '${canary}'`);
  put(root, { '.git/hooks/post-index-change': `#!/bin/sh\ntouch '${canary}'\n`, 'changed.bin': 'data' });
  chmodSync(path.join(root, '.git/hooks/post-index-change'), 0o755);
  const snapshot = await taken(root);
  expect(existsSync(canary)).toBe(false);
  expect(snapshot.notices.join()).toContain('Git LFS');
  expect(received(snapshot).show('pointer.bin')).toContain('git-lfs');
});

it('takes a shallow clone with the ids and the history that are there, and says so', async () => {
  const origin = repository();
  for (const name of ['b', 'c', 'd']) {
    put(origin, { [name]: name });
    git(origin, 'add', '-A');
    git(origin, 'commit', '-q', '-m', name);
  }
  const clone = folder();
  git(clone, 'clone', '-q', '--depth', '2', `file://${origin}`, '.');
  put(clone, { 'a.txt': 'dirty' });
  const snapshot = await taken(clone);
  expect(snapshot.head).toBe(git(origin, 'rev-parse', 'HEAD'));
  expect(snapshot.notices).toEqual([expect.stringContaining('shallow clone')]);
  const { count, show } = received(snapshot);
  expect(count(snapshot.head ?? '')).toBe(2);
  expect(show('a.txt')).toBe('dirty');
});

it('leaves submodules and nested repositories out, and says which', async () => {
  const inner = repository({ 'inner.txt': 'x' });
  const root = repository();
  git(root, 'submodule', '--quiet', 'add', `file://${inner}`, 'sub');
  git(root, 'commit', '-q', '-m', 'with a submodule');
  git(root, 'init', '-q', 'nested');
  put(root, { 'nested/x': 'x' });
  const snapshot = await taken(root);
  expect(snapshot.notices).toEqual([
    'Submodules are left out: sub',
    'Repositories inside this one are left out: nested/',
  ]);
  expect(received(snapshot).tree).toEqual([
    '100644 .gitignore',
    '100644 .gitmodules',
    '100644 a.txt',
    '160000 sub',
  ]);
});

it('takes a conflicted merge and removed files as they lie there', async () => {
  const root = repository();
  git(root, 'switch', '-q', '-c', 'side');
  put(root, { 'a.txt': 'side\n' });
  git(root, 'commit', '-q', '-am', 'side');
  git(root, 'switch', '-q', 'main');
  put(root, { 'a.txt': 'main\n', 'gone.txt': 'x' });
  git(root, 'add', '-A');
  git(root, 'commit', '-q', '-m', 'main');
  expect(() => git(root, 'merge', 'side')).toThrow();
  rmSync(path.join(root, 'gone.txt'));
  const { tree, show } = received(await taken(root));
  expect(show('a.txt')).toContain('<<<<<<<');
  expect(tree).not.toContain('100644 gone.txt');
});

it('takes SHA-256 repositories', async () => {
  const root = folder();
  git(root, 'init', '-q', '--object-format=sha256');
  put(root, { 'a.txt': 'x' });
  expect(received(await taken(root)).tree).toEqual(['100644 a.txt']);
});

it('drops the history where only that makes it too large, and names the files where even that is', async () => {
  const root = repository({ 'a.txt': 'one\n' });
  const noise = (seed: string) =>
    createHash('shake256', { outputLength: 300_000 }).update(seed).digest('base64');
  put(root, { 'old.bin': noise('old') });
  git(root, 'add', '-A');
  git(root, 'commit', '-q', '-m', 'large');
  git(root, 'rm', '-q', 'old.bin');
  git(root, 'commit', '-q', '-m', 'small again');
  const snapshot = await taken(root, { maxBundleBytes: 100_000 });
  expect(snapshot.notices).toEqual([expect.stringContaining('without it')]);
  expect(snapshot.head).toBe(git(root, 'rev-parse', 'HEAD'));
  expect(received(snapshot).count(snapshot.snapshotCommit)).toBe(1);
  put(root, { 'huge file.bin': noise('new') });
  const refused = await takeSnapshot(root, { maxBundleBytes: 100_000 });
  expect(refused).toMatchObject({ ok: false, message: expect.stringContaining('huge file.bin (0.4 MiB)') });
});

it('says in one line why there is nothing to take', async () => {
  const outside = folder();
  process.env.GIT_CEILING_DIRECTORIES = path.dirname(outside);
  expect(await takeSnapshot(outside)).toMatchObject({
    ok: false,
    message: expect.stringContaining('git init'),
  });
  expect(await takeSnapshot(path.join(outside, 'missing'))).toMatchObject({
    ok: false,
    message: expect.stringContaining('does not exist'),
  });
  git(outside, 'init', '-q', '--bare', 'bare.git');
  expect(await takeSnapshot(path.join(outside, 'bare.git'))).toMatchObject({
    ok: false,
    message: expect.stringContaining('bare'),
  });
});
