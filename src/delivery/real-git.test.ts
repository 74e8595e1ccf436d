// Layout, diff and bundle with a real sh and a real git, in folders of their own; only the sandbox is missing.
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { Executor, ProcessRead, StartProcess } from '../sandbox/executor.ts';
import type { RepositoryPin } from '../session/events.ts';
import type { Blobs } from '../store/store.ts';
import { bundleWorkspace } from './bundle.ts';
import { diffWorkspace, readChanges } from './diff.ts';
import { layoutRepository } from './layout.ts';

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** Plain processes; the sandbox's paths are folders below one root. */
function place() {
  const root = mkdtempSync(path.join(tmpdir(), 'delivery-'));
  folders.push(root);
  const real = (inside: string) =>
    inside
      .replace(/^\/mnt\/session\/uploads/, path.join(root, 'uploads'))
      .replace(/^\/workspace/, path.join(root, 'workspace'));
  for (const name of ['uploads', 'workspace', 'home', 'user']) mkdirSync(path.join(root, name));
  const started: StartProcess[] = [];
  const run = (request: StartProcess) =>
    new Promise<ProcessRead>((resolve, reject) => {
      started.push(request);
      const [program = '', ...args] = request.argv.map(real);
      const child = spawn(program, args, {
        cwd: existsSync(real(request.cwd)) ? real(request.cwd) : root,
        env: { PATH: process.env.PATH, HOME: path.join(root, 'home'), ...request.env },
      });
      const chunks: ProcessRead['chunks'] = [];
      for (const stream of ['stdout', 'stderr'] as const)
        child[stream].on('data', (data: Buffer) => chunks.push({ seq: chunks.length + 1, stream, data }));
      child.once('error', reject);
      child.once('close', (exitCode, signal) => {
        done.set(request.callId, { exitCode, signal });
        resolve({ chunks, nextSeq: chunks.length, droppedBytes: 0, process: ended(request.callId) });
      });
    });
  const done = new Map<string, { exitCode: number | null; signal: string | null }>();
  const ended = (callId: string): ProcessRead['process'] => ({
    state: 'exited',
    exitCode: done.get(callId)?.exitCode ?? null,
    signal: done.get(callId)?.signal ?? null,
    endedBy: null,
    durationMs: 1,
  });
  const executor = {
    startProcess: run,
    readProcess: async (request: { callId: string; afterSeq: number }) => ({
      chunks: [],
      nextSeq: request.afterSeq,
      droppedBytes: 0,
      process: ended(request.callId),
    }),
    readFile: async (request: { path: string; offset?: number; maxBytes: number }) => {
      const data = readFileSync(real(request.path));
      const offset = request.offset ?? 0;
      return {
        data: data.subarray(offset, offset + request.maxBytes),
        sizeBytes: data.length,
        isWhole: false,
      };
    },
    applyEdits: async (request: { edits: { path: string }[] }) => {
      for (const edit of request.edits) rmSync(real(edit.path), { force: true });
      return { files: [] };
    },
  } as unknown as Executor;
  return { root, executor, started, workspace: path.join(root, 'workspace'), user: path.join(root, 'user') };
}

type Place = ReturnType<typeof place>;

function git(cwd: string, ...args: string[]): string {
  return execFileSync('git', args, {
    cwd,
    encoding: 'utf8',
    env: {
      PATH: process.env.PATH,
      HOME: cwd,
      GIT_AUTHOR_NAME: 'U Ser',
      GIT_AUTHOR_EMAIL: 'u@example.com',
      GIT_COMMITTER_NAME: 'U Ser',
      GIT_COMMITTER_EMAIL: 'u@example.com',
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_CONFIG_GLOBAL: '/dev/null',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  }).trim();
}

/** As the command line does it: HEAD, and a commit of the working tree where it differs. */
function bundleOf(one: Place, name = 'repository.bundle'): RepositoryPin {
  const { user } = one;
  const head = git(user, 'rev-list', '--all', '-n', '1') === '' ? null : git(user, 'rev-parse', 'HEAD');
  const index = readIndex(user);
  git(user, 'add', '-A');
  const tree = git(user, 'write-tree');
  restoreIndex(user, index);
  const isClean = head !== null && git(user, 'rev-parse', `${head}^{tree}`) === tree;
  const snapshot = isClean
    ? head
    : git(user, 'commit-tree', tree, ...(head ? ['-p', head] : []), '-m', 'Your uncommitted work');
  git(user, 'update-ref', 'refs/scriptorium/snapshot', snapshot);
  git(user, 'bundle', 'create', path.join(one.root, 'uploads', name), 'refs/scriptorium/snapshot');
  git(user, 'update-ref', '-d', 'refs/scriptorium/snapshot');
  const branch = git(user, 'symbolic-ref', '--short', 'HEAD');
  return {
    upload: name,
    blobSha256: '',
    sizeBytes: 0,
    mountPath: '/workspace',
    branch,
    head,
    snapshotRef: 'refs/scriptorium/snapshot',
  };
}

function readIndex(user: string): Buffer | null {
  const file = path.join(user, '.git', 'index');
  return existsSync(file) ? readFileSync(file) : null;
}

function restoreIndex(user: string, index: Buffer | null): void {
  const file = path.join(user, '.git', 'index');
  if (index) writeFileSync(file, index);
  else rmSync(file, { force: true });
}

function put(folder: string, files: Record<string, string>): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), content);
  }
}

function startRepository(one: Place): void {
  git(one.user, 'init', '-q', '-b', 'main');
  put(one.user, { 'a.txt': 'one\ntwo\n', 'src/deep.js': 'export {}\n', '.gitignore': 'ignored\n' });
  git(one.user, 'add', '-A');
  git(one.user, 'commit', '-q', '-m', 'first');
}

let calls = 0;
const ref = () => ({ session: 'sesn_1', fence: 1, callId: `call_${++calls}` });

async function laidOut(one: Place, pin: RepositoryPin): Promise<string> {
  const layout = await layoutRepository(one.executor, ref(), pin);
  if (!layout.ok) throw new Error(layout.message);
  return layout.baseCommit;
}

function blobs(): Blobs & { content: Map<string, Buffer> } {
  const content = new Map<string, Buffer>();
  return {
    content,
    async put(_organization, data) {
      const pieces: Uint8Array[] = [];
      if (data instanceof Uint8Array) pieces.push(data);
      else for await (const piece of data) pieces.push(piece);
      const whole = Buffer.concat(pieces);
      const sha256 = createHash('sha256').update(whole).digest('hex');
      content.set(sha256, whole);
      return { sha256, sizeBytes: whole.length };
    },
    async read(_organization, sha256, offset, maxBytes) {
      return content.get(sha256)?.subarray(offset, offset + maxBytes) ?? null;
    },
    async delete(_organization, sha256) {
      content.delete(sha256);
    },
  };
}

/** Bundles the work and fetches it into the user's repository; the commits, oldest first, as `sha subject`. */
async function delivered(one: Place, pin: RepositoryPin, base: string): Promise<string[]> {
  const store = blobs();
  const bundle = await bundleWorkspace(one.executor, ref(), pin, base, {
    blobs: store,
    organization: 'org_1',
  });
  if (!bundle.ok) throw new Error(bundle.message);
  if (bundle.sha256 === null) return [];
  const file = path.join(one.root, 'out.bundle');
  writeFileSync(file, store.content.get(bundle.sha256) ?? '');
  git(one.user, 'fetch', '-q', file, `${bundle.ref}:refs/heads/delivered`);
  expect(git(one.user, 'rev-parse', 'delivered')).toBe(bundle.head);
  const range = pin.head === null ? ['delivered'] : ['delivered', `^${pin.head}`];
  const log = git(one.user, 'log', '--reverse', '--topo-order', '--format=%s', ...range);
  expect(bundle.commits.map((commit) => commit.subject)).toEqual(
    log.split('\n').slice(base === pin.head ? 0 : 1),
  );
  return log.split('\n');
}

const show = (one: Place, file: string) => git(one.user, 'show', `delivered:${file}`);

describe('layout', () => {
  it('gives the branch at HEAD with uncommitted work still uncommitted', async () => {
    const one = place();
    startRepository(one);
    put(one.user, { 'a.txt': 'one\nchanged\n', 'new file.txt': 'untracked', ignored: 'secret' });
    rmSync(path.join(one.user, 'src/deep.js'));
    chmodSync(path.join(one.user, 'new file.txt'), 0o755);
    symlinkSync('a.txt', path.join(one.user, 'link'));
    const pin = bundleOf(one);
    const layout = await layoutRepository(one.executor, ref(), pin);
    expect(layout).toMatchObject({ ok: true, head: pin.head, branch: 'main', uncommittedPaths: 4 });
    expect(git(one.workspace, 'status', '--porcelain')).toBe(git(one.user, 'status', '--porcelain'));
    expect(git(one.workspace, 'rev-parse', '--abbrev-ref', 'HEAD')).toBe('main');
    expect(git(one.workspace, 'diff', '--cached', '--name-only')).toBe('');
    expect(existsSync(path.join(one.workspace, 'ignored'))).toBe(false);
    expect(readlinkSync(path.join(one.workspace, 'link'))).toBe('a.txt');
    expect(lstatSync(path.join(one.workspace, 'new file.txt')).mode & 0o111).not.toBe(0);
  });

  it('starts over after an interruption anywhere, and changes nothing when all is there', async () => {
    const one = place();
    startRepository(one);
    put(one.user, { 'a.txt': 'dirty\n' });
    const pin = bundleOf(one);
    mkdirSync(path.join(one.workspace, '.git'));
    await laidOut(one, pin);
    writeFileSync(path.join(one.workspace, '.git', 'scriptorium-unfinished'), '');
    rmSync(path.join(one.workspace, '.git', 'HEAD'));
    writeFileSync(path.join(one.workspace, 'half.tmp'), '');
    const base = await laidOut(one, pin);
    expect(existsSync(path.join(one.workspace, 'half.tmp'))).toBe(false);
    put(one.workspace, { 'agent.txt': 'work' });
    expect(await laidOut(one, pin)).toBe(base);
    expect(existsSync(path.join(one.workspace, 'agent.txt'))).toBe(true);
  });

  it('leaves a workspace alone that holds something else', async () => {
    const one = place();
    startRepository(one);
    put(one.workspace, { 'mine.txt': 'x' });
    const layout = await layoutRepository(one.executor, ref(), bundleOf(one));
    expect(layout).toMatchObject({ ok: false, message: expect.stringContaining('not empty') });
    expect(readFileSync(path.join(one.workspace, 'mine.txt'), 'utf8')).toBe('x');
  });

  it('runs again under an id of its own when the sandbox died with the first run', async () => {
    const one = place();
    startRepository(one);
    const pin = bundleOf(one);
    const start = one.executor.startProcess.bind(one.executor);
    let isFirst = true;
    one.executor.startProcess = async (request) => {
      if (!isFirst) return start(request);
      isFirst = false;
      return { chunks: [], nextSeq: 0, droppedBytes: 0, process: { state: 'lost', reason: 'host died' } };
    };
    expect(await layoutRepository(one.executor, ref(), pin)).toMatchObject({ ok: true });
    expect(one.started[0]?.callId).toMatch(/\.2$/);
  });

  it('says what is wrong with an upload that is no bundle', async () => {
    const one = place();
    startRepository(one);
    const pin = bundleOf(one);
    writeFileSync(path.join(one.root, 'uploads', 'repository.bundle'), 'nonsense');
    expect(await layoutRepository(one.executor, ref(), pin)).toMatchObject({ ok: false });
  });
});

describe('diff', () => {
  it('tells commits, uncommitted and untracked files against what the user had, not against HEAD', async () => {
    const one = place();
    startRepository(one);
    put(one.user, { 'a.txt': 'one\ndirty\n', 'mine.txt': 'mine\n' });
    const pin = bundleOf(one);
    const base = await laidOut(one, pin);
    put(one.workspace, { 'a.txt': 'one\ndirty\nagent\n' });
    git(one.workspace, 'commit', '-q', '-am', 'agent');
    put(one.workspace, { 'tab\tand "quote".txt': 'x\n', ignored: 'no', 'bin.dat': 'a\0b' });
    rmSync(path.join(one.workspace, 'src/deep.js'));
    const diff = await diffWorkspace(one.executor, ref(), pin, base);
    if (!diff.ok) throw new Error(diff.message);
    expect(diff.files).toEqual([
      { path: 'a.txt', status: 'modified', oldPath: null, added: 1, removed: 0 },
      { path: 'bin.dat', status: 'added', oldPath: null, added: null, removed: null },
      { path: 'src/deep.js', status: 'deleted', oldPath: null, added: 0, removed: 1 },
      { path: 'tab\tand "quote".txt', status: 'added', oldPath: null, added: 1, removed: 0 },
    ]);
    expect(diff.diff).toContain('+agent');
    expect(diff.diff).not.toContain('mine');
    expect(diff.isWhole).toBe(true);
    expect(git(one.workspace, 'status', '--porcelain')).toContain('D src/deep.js');
  });

  it('is empty for an untouched workspace, and cut where it is too long', async () => {
    const one = place();
    startRepository(one);
    put(one.user, { 'a.txt': 'dirty\n' });
    const pin = bundleOf(one);
    const base = await laidOut(one, pin);
    expect(await diffWorkspace(one.executor, ref(), pin, base)).toMatchObject({
      ok: true,
      diff: '',
      files: [],
      isWhole: true,
    });
    put(one.workspace, { 'big.txt': 'line\n'.repeat(10_000) });
    const cut = await diffWorkspace(one.executor, ref(), pin, base, { maxBytes: 1000 });
    expect(cut).toMatchObject({ ok: true, isWhole: false });
    expect(cut.ok && cut.diff.length).toBe(1000);
  });

  it('asks nothing of the configuration the agent wrote, and sees what the agent told git to hide', async () => {
    const one = place();
    startRepository(one);
    const pin = bundleOf(one);
    const base = await laidOut(one, pin);
    const canary = path.join(one.root, 'canary');
    git(one.workspace, 'config', 'core.fsmonitor', `touch ${canary}`);
    git(one.workspace, 'config', 'diff.external', `touch ${canary}`);
    git(one.workspace, 'config', 'filter.evil.clean', `touch ${canary}; cat`);
    put(one.workspace, { 'a.txt': 'hidden change\n', '.gitattributes': '* filter=evil\n' });
    git(one.workspace, '-c', 'core.fsmonitor=false', 'update-index', '--assume-unchanged', 'a.txt');
    rmSync(canary, { force: true });
    const diff = await diffWorkspace(one.executor, ref(), pin, base);
    expect(diff.ok && diff.diff).toContain('+hidden change');
    expect(existsSync(canary)).toBe(false);
  });

  it('still shows the work when the agent threw the repository away', async () => {
    const one = place();
    startRepository(one);
    const pin = bundleOf(one);
    const base = await laidOut(one, pin);
    rmSync(path.join(one.workspace, '.git'), { recursive: true });
    put(one.workspace, { 'a.txt': 'after\n' });
    const diff = await diffWorkspace(one.executor, ref(), pin, base);
    expect(diff.ok && diff.diff).toContain('+after');
    expect(await delivered(one, pin, base)).toEqual(['Work the agent left uncommitted']);
  });

  it('reads moves', () => {
    const text = ':100644 100644 aa bb R095\0old\0new\0' + '3\t1\t\0old\0new\0';
    expect(readChanges(text)).toEqual([
      { path: 'new', status: 'renamed', oldPath: 'old', added: 3, removed: 1 },
    ]);
  });
});

describe('bundle', () => {
  it("puts the agent's own commits on the user's HEAD where nothing was uncommitted", async () => {
    const one = place();
    startRepository(one);
    const pin = bundleOf(one);
    const base = await laidOut(one, pin);
    expect(base).toBe(pin.head);
    git(one.workspace, 'switch', '-q', '-c', 'fix');
    put(one.workspace, { 'a.txt': 'fixed\n' });
    git(one.workspace, 'commit', '-q', '-am', 'fix it');
    const commit = git(one.workspace, 'rev-parse', 'HEAD');
    expect(await delivered(one, pin, base)).toEqual(['fix it']);
    expect(git(one.user, 'rev-parse', 'delivered')).toBe(commit);
  });

  it('adds one commit for what the agent left uncommitted, without moving its branch, and the same one when asked twice', async () => {
    const one = place();
    startRepository(one);
    const pin = bundleOf(one);
    const base = await laidOut(one, pin);
    put(one.workspace, { 'a.txt': 'fixed\n', 'fresh.txt': 'new\n' });
    const before = git(one.workspace, 'status', '--porcelain');
    expect(await delivered(one, pin, base)).toEqual(['Work the agent left uncommitted']);
    expect(await delivered(one, pin, base)).toEqual(['Work the agent left uncommitted']);
    expect(show(one, 'fresh.txt')).toBe('new');
    expect(git(one.workspace, 'status', '--porcelain')).toBe(before);
    expect(git(one.workspace, 'rev-parse', 'HEAD')).toBe(pin.head);
  });

  it("makes the user's uncommitted work a commit of its own below the agent's", async () => {
    const one = place();
    startRepository(one);
    put(one.user, { 'a.txt': 'one\ndirty\n', 'mine.txt': 'mine\n' });
    const pin = bundleOf(one);
    const base = await laidOut(one, pin);
    put(one.workspace, { 'src/deep.js': 'export const a = 1;\n' });
    git(one.workspace, 'commit', '-q', '-am', 'agent commits all that is tracked');
    git(
      one.workspace,
      '-c',
      'user.name=Ag Ent',
      'commit',
      '-q',
      '--allow-empty',
      '-m',
      'with a body\n\nAnd more.',
    );
    put(one.workspace, { 'left.txt': 'left\n' });
    expect(await delivered(one, pin, base)).toEqual([
      'Your uncommitted work',
      'agent commits all that is tracked',
      'with a body',
      'Work the agent left uncommitted',
    ]);
    expect(git(one.user, 'diff', '--name-only', 'delivered~3', 'delivered~2')).toBe('src/deep.js');
    expect(git(one.user, 'log', '-1', '--format=%an|%b', 'delivered~1')).toMatch(
      /^(U Ser|Ag Ent)\|And more\.$/,
    );
    expect(show(one, 'mine.txt')).toBe('mine');
    expect(show(one, 'a.txt')).toBe('one\ndirty');
  });

  it("keeps the user's own untracked file when the agent begins to ignore it, and drops it when the agent deletes it", async () => {
    const one = place();
    startRepository(one);
    put(one.user, { 'mine.txt': 'mine\n', 'gone.txt': 'gone\n' });
    const pin = bundleOf(one);
    const base = await laidOut(one, pin);
    put(one.workspace, { '.gitignore': 'ignored\nmine.txt\n' });
    rmSync(path.join(one.workspace, 'gone.txt'));
    await delivered(one, pin, base);
    expect(show(one, 'mine.txt')).toBe('mine');
    expect(() => show(one, 'gone.txt')).toThrow();
  });

  it('works for a repository without commits', async () => {
    const one = place();
    git(one.user, 'init', '-q', '-b', 'main');
    put(one.user, { 'a.txt': 'mine\n' });
    const pin = bundleOf(one);
    expect(pin.head).toBeNull();
    const base = await laidOut(one, pin);
    expect(git(one.workspace, 'status', '--porcelain')).toBe('?? a.txt');
    put(one.workspace, { 'b.txt': 'agent\n' });
    git(one.workspace, 'add', 'b.txt');
    git(one.workspace, 'commit', '-q', '-m', 'agent');
    expect(await delivered(one, pin, base)).toEqual(['Your uncommitted work', 'agent']);
    expect(show(one, 'a.txt')).toBe('mine');
  });

  it('delivers nothing where nothing changed', async () => {
    const one = place();
    startRepository(one);
    put(one.user, { 'a.txt': 'dirty\n' });
    const pin = bundleOf(one);
    const base = await laidOut(one, pin);
    expect(await delivered(one, pin, base)).toEqual([]);
  });

  it('follows merges, and an agent that went back to an older commit', async () => {
    const one = place();
    startRepository(one);
    put(one.user, { 'b.txt': 'second\n' });
    git(one.user, 'add', '-A');
    git(one.user, 'commit', '-q', '-m', 'second');
    put(one.user, { 'mine.txt': 'mine\n' });
    const pin = bundleOf(one);
    const base = await laidOut(one, pin);
    git(one.workspace, 'switch', '-q', '-c', 'side');
    put(one.workspace, { 's.txt': 's\n' });
    git(one.workspace, 'add', 's.txt');
    git(one.workspace, 'commit', '-q', '-m', 'side');
    git(one.workspace, 'switch', '-q', 'main');
    put(one.workspace, { 'm.txt': 'm\n' });
    git(one.workspace, 'add', 'm.txt');
    git(one.workspace, 'commit', '-q', '-m', 'main');
    git(one.workspace, 'merge', '-q', '--no-ff', '-m', 'merge', 'side');
    const log = await delivered(one, pin, base);
    expect(log[0]).toBe('Your uncommitted work');
    expect(log.at(-1)).toBe('merge');
    expect(git(one.user, 'rev-list', '--parents', '-n', '1', 'delivered').split(' ')).toHaveLength(3);
    git(one.user, 'branch', '-D', 'delivered');
    git(one.workspace, 'reset', '-q', '--hard', 'HEAD~2');
    git(one.workspace, 'reset', '-q', '--hard', 'HEAD~1');
    expect((await delivered(one, pin, base)).at(-1)).toBe('Work the agent left uncommitted');
    expect(() => show(one, 'b.txt')).toThrow();
  });

  it('leaves out repositories the agent cloned into the workspace, and refuses a bundle beyond the cap', async () => {
    const one = place();
    startRepository(one);
    const pin = bundleOf(one);
    const base = await laidOut(one, pin);
    git(one.workspace, 'init', '-q', 'nested');
    put(one.workspace, { 'nested/x': 'x', 'a.txt': 'changed\n' });
    expect(await delivered(one, pin, base)).toHaveLength(1);
    expect(() => show(one, 'nested')).toThrow();
    const store = blobs();
    const capped = await bundleWorkspace(one.executor, ref(), pin, base, {
      blobs: store,
      organization: 'o',
      maxBytes: 10,
    });
    expect(capped).toMatchObject({ ok: false, message: expect.stringContaining('larger than 10 bytes') });
    expect(store.content.size).toBe(0);
  });
});
