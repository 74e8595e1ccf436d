// What comes out of a sandbox is a stranger's: honest bundles become a branch, hostile ones leave nothing behind.
import { execFileSync } from 'node:child_process';
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
import type { ApplyRequest } from './apply-bundle.ts';
import { applyBundle } from './apply-bundle.ts';
import { parseBundleHead } from './bundle-file.ts';
import { leadsOut } from './inspect.ts';

const ref = 'refs/scriptorium/delivery';
let root = '';
let user = '';
let agent = '';
let base = '';

beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'apply-'));
  user = path.join(root, 'user');
  agent = path.join(root, 'agent');
  mkdirSync(user);
  git(user, 'init', '-q', '-b', 'main');
  writeFileSync(path.join(user, 'a.txt'), 'one\n');
  git(user, 'add', '-A');
  git(user, 'commit', '-q', '-m', 'first');
  base = git(user, 'rev-parse', 'HEAD');
  git(root, 'clone', '-q', user, agent);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function git(cwd: string, ...args: string[]): string {
  return gitWith(cwd, '', ...args);
}

function gitWith(cwd: string, input: string | Buffer, ...args: string[]): string {
  const env = { PATH: process.env.PATH, HOME: root, GIT_CONFIG_NOSYSTEM: '1' };
  const identity = ['-c', 'user.name=U', '-c', 'user.email=u@example.com', '-c', 'core.protectNTFS=false'];
  return execFileSync('git', [...identity, ...args], {
    cwd,
    env,
    input,
    encoding: 'utf8',
    stdio: 'pipe',
  }).trim();
}

function commitInAgent(files: Record<string, string>, message = 'work'): void {
  for (const [name, content] of Object.entries(files)) writeFileSync(path.join(agent, name), content);
  git(agent, 'add', '-A');
  git(agent, 'commit', '-q', '-m', message);
}

function bundle(tip = git(agent, 'rev-parse', 'HEAD'), not: string[] = [`^${base}`]): ApplyRequest {
  git(agent, 'update-ref', ref, tip);
  const bundlePath = path.join(root, 'out.bundle');
  git(agent, 'bundle', 'create', '-q', bundlePath, ref, ...not);
  return { folder: user, bundlePath, ref, head: tip, branch: 'scriptorium/test' };
}

/** A commit with a tree written by hand: `[mode, type, name, blob]`, none of it checked. */
function handMade(entries: [mode: string, name: string, content: string][]): string {
  const raw = entries.map(([mode, name, content]) => {
    const sha = gitWith(agent, content, 'hash-object', '-w', '--stdin');
    return Buffer.concat([Buffer.from(`${mode} ${name}\0`), Buffer.from(sha, 'hex')]);
  });
  const tree = gitWith(
    agent,
    Buffer.concat(raw),
    'hash-object',
    '-t',
    'tree',
    '-w',
    '--literally',
    '--stdin',
  );
  return git(agent, 'commit-tree', tree, '-p', base, '-m', 'hostile');
}

const refs = () => git(user, 'for-each-ref', '--format=%(refname)');
const objects = () => git(user, 'count-objects', '-v').split('\n').slice(0, 4).join();

describe('an honest bundle', () => {
  it('becomes a branch, without touching the working tree, HEAD, or running a hook', async () => {
    commitInAgent({ 'a.txt': 'two\n' }, 'fix it');
    const canary = path.join(root, 'canary');
    for (const hook of ['reference-transaction', 'post-checkout', 'post-merge']) {
      writeFileSync(path.join(user, '.git', 'hooks', hook), `#!/bin/sh\ntouch ${canary}\n`);
      chmodSync(path.join(user, '.git', 'hooks', hook), 0o755);
    }
    const applied = await applyBundle(bundle());
    expect(applied).toMatchObject({ ok: true, isNew: true, branch: 'scriptorium/test', onto: base });
    expect(applied.ok && applied.commits.map((commit) => commit.subject)).toEqual(['fix it']);
    expect(git(user, 'show', 'scriptorium/test:a.txt')).toBe('two');
    expect(readFileSync(path.join(user, 'a.txt'), 'utf8')).toBe('one\n');
    expect(git(user, 'status', '--porcelain')).toBe('');
    expect(existsSync(path.join(user, '.git', 'FETCH_HEAD'))).toBe(false);
    expect(existsSync(canary)).toBe(false);
  });

  it('may come twice, and may come from a subdirectory', async () => {
    commitInAgent({ 'a.txt': 'two\n' });
    mkdirSync(path.join(user, 'sub'));
    const request = { ...bundle(), folder: path.join(user, 'sub') };
    expect(await applyBundle(request)).toMatchObject({ ok: true, isNew: true });
    expect(await applyBundle(request)).toMatchObject({ ok: true, isNew: false });
  });

  it('fits onto a shallow clone', async () => {
    commitInAgent({ 'b.txt': 'b\n' }, 'second');
    const shallow = path.join(root, 'shallow');
    git(root, 'clone', '-q', '--depth', '1', `file://${agent}`, shallow);
    const from = git(agent, 'rev-parse', 'HEAD');
    commitInAgent({ 'a.txt': 'two\n' });
    const applied = await applyBundle({ ...bundle(undefined, [`^${from}`]), folder: shallow });
    expect(applied).toMatchObject({ ok: true, onto: from });
  });

  it('never overwrites a branch that is there', async () => {
    commitInAgent({ 'a.txt': 'two\n' });
    git(user, 'branch', 'scriptorium/test');
    expect(await applyBundle(bundle())).toMatchObject({
      ok: false,
      message: expect.stringContaining('--branch'),
    });
    expect(git(user, 'rev-parse', 'scriptorium/test')).toBe(base);
  });

  it('says so when this is another repository', async () => {
    commitInAgent({ 'a.txt': 'two\n' });
    const other = path.join(root, 'other');
    git(root, 'init', '-q', 'other');
    expect(await applyBundle({ ...bundle(), folder: other })).toMatchObject({
      ok: false,
      message: expect.stringContaining(base.slice(0, 12)),
    });
    expect(await applyBundle({ ...bundle(), folder: root })).toMatchObject({ ok: false });
  });
});

describe('a hostile bundle is refused and leaves nothing behind', () => {
  async function refused(request: ApplyRequest): Promise<string> {
    const before = [refs(), objects()];
    const applied = await applyBundle(request);
    expect(applied.ok).toBe(false);
    expect([refs(), objects()]).toEqual(before);
    return applied.ok ? '' : applied.message;
  }

  it.each([
    ['a .git entry', [['100644', '.git', 'gitdir: /tmp/x']]],
    ['a .git entry in other letters', [['100644', '.GiT', 'x']]],
    ['a .git that only some file systems see', [['100644', 'git~1', 'x']]],
    ['a .git with an invisible letter', [['100644', '.g\u200cit', 'x']]],
    ['a way up', [['100644', '..', 'x']]],
    ['a path as a name', [['100644', 'a/b', 'x']]],
    ['a .gitmodules that is a link', [['120000', '.gitmodules', 'a.txt']]],
    [
      'a .gitmodules with a command for a URL',
      [['100644', '.gitmodules', '[submodule "x"]\n\tpath = x\n\turl = -u./payload\n']],
    ],
    [
      'two entries of one name',
      [
        ['100644', 'x', '1'],
        ['120000', 'x', '/etc'],
      ],
    ],
    ['a link that is absolute', [['120000', 'x', '/etc/passwd']]],
    ['a link that leads out', [['120000', 'x', '../../home']]],
    ['a link into .git', [['120000', 'x', '.git/hooks']]],
  ] as [string, [string, string, string][]][])('%s', async (_what, entries) => {
    await refused(bundle(handMade(entries)));
  });

  it('a link hidden in the middle of the history', async () => {
    symlinkSync('/etc/passwd', path.join(agent, 'x'));
    commitInAgent({});
    rmSync(path.join(agent, 'x'));
    commitInAgent({ y: 'y' });
    expect(await refused(bundle())).toContain('leads out');
  });

  it('another ref or another commit than the server named, more refs, unknown capabilities', async () => {
    commitInAgent({ 'a.txt': 'two\n' });
    const request = bundle();
    expect(await refused({ ...request, head: base })).toContain('one ref');
    expect(await refused({ ...request, ref: 'refs/heads/main' })).toContain('one ref');
    git(agent, 'bundle', 'create', '-q', request.bundlePath, ref, 'refs/heads/main', `^${base}`);
    expect(await refused(request)).toContain('one ref');
    writeFileSync(request.bundlePath, `# v3 git bundle\n@filter=blob:none\n${request.head} ${ref}\n\nPACK`);
    expect(await refused(request)).toContain('capability');
  });

  it('a cut, a changed and an oversized file', async () => {
    commitInAgent({ 'a.txt': 'two\n', big: 'x'.repeat(100_000) });
    const request = bundle();
    expect(await refused({ ...request, limits: { maxBundleBytes: 100 } })).toContain('more than 100');
    expect(await refused({ ...request, limits: { maxObjectBytes: 50_000 } })).toContain('100000 bytes');
    expect(await refused({ ...request, limits: { maxTotalBytes: 50_000 } })).toContain('unpacks to');
    expect(await refused({ ...request, limits: { maxObjects: 2 } })).toContain('objects');
    const bytes = readFileSync(request.bundlePath);
    writeFileSync(request.bundlePath, bytes.subarray(0, bytes.length - 30));
    await refused(request);
    bytes[bytes.length - 40] = (bytes[bytes.length - 40] ?? 0) ^ 0xff;
    writeFileSync(request.bundlePath, bytes);
    await refused(request);
  });

  it('commits whose parents are not there', async () => {
    commitInAgent({ 'a.txt': 'two\n' });
    const missing = git(agent, 'rev-parse', 'HEAD');
    commitInAgent({ 'a.txt': 'three\n' });
    const request = bundle(undefined, [`^${missing}`]);
    const bytes = readFileSync(request.bundlePath);
    expect(await refused(request)).toContain(missing.slice(0, 12));
    // The same pack under a head that claims to need nothing.
    const pack = bytes.subarray(bytes.indexOf('PACK'));
    writeFileSync(
      request.bundlePath,
      Buffer.concat([Buffer.from(`# v2 git bundle\n${request.head} ${ref}\n\n`), pack]),
    );
    await refused(request);
  });

  it('branch names that are none', async () => {
    commitInAgent({ 'a.txt': 'two\n' });
    for (const branch of ['-f', 'a..b', 'a b', '', 'x.lock', '@{-1}']) await refused({ ...bundle(), branch });
  });
});

it('reads heads of bundles strictly', () => {
  const sha = 'a'.repeat(40);
  const parse = (text: string) => parseBundleHead(Buffer.from(text));
  expect(parse(`# v2 git bundle\n-${sha} why\n${sha} refs/x\n\nPACK`)).toMatchObject({
    ok: true,
    head: { prerequisites: [sha], refs: [{ sha, name: 'refs/x' }] },
  });
  for (const text of [
    '',
    'PACK\n\n',
    '# v4 git bundle\n\n',
    `# v2 git bundle\n${sha}\n\n`,
    '# v2 git bundle\n',
    `# v2 git bundle\n${sha} a b\n\n`,
  ])
    expect(parse(text).ok).toBe(false);
});

it('judges links by their text alone', () => {
  for (const [name, target] of [
    ['a', 'b'],
    ['a/b', '../c'],
    ['a', './x/../y'],
  ] as const)
    expect(leadsOut(name, target)).toBe(false);
  for (const [name, target] of [
    ['a', '..'],
    ['a', '../a'],
    ['a/b', '../../c'],
    ['a', '/x'],
    ['a', ''],
    ['a/b', '../.GIT/x'],
  ] as const)
    expect(leadsOut(name, target)).toBe(true);
});
