/**
 * Takes the user's repository as it is into one bundle: HEAD with its history, and a commit whose tree is the working
 * tree with everything uncommitted and everything untracked that is not ignored.
 *
 * Promises kept here
 * - The user's index, refs, working tree and object store are only read. New objects, a copy of the index and the
 *   refs of the bundle live in a temporary repository that borrows the user's objects.
 * - The commit ids are the user's own, also for shallow and partial clones: what history is missing is named in a
 *   `shallow` list that travels with the bundle, so that what comes back fits onto the user's HEAD.
 * - A clean working tree has no snapshot commit of its own: the snapshot is HEAD.
 * - What is left out (submodules, nested repositories, LFS contents, history) is said in `notices`.
 */
import { copyFile, mkdir, stat, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { GitResult } from './git.ts';
import { git, gitText } from './git.ts';
import { temporaryFolder } from './temporary.ts';
import type { Worktree } from './worktree.ts';
import { locateWorktree } from './worktree.ts';

export const snapshotRefs = {
  head: 'refs/scriptorium/head',
  snapshot: 'refs/scriptorium/snapshot',
  shallow: 'refs/scriptorium/shallow',
} as const;

export type Snapshot = {
  bundlePath: string;
  sizeBytes: number;
  root: string;
  branch: string | null;
  head: string | null;
  snapshotRef: string;
  /** Equal to `head` where nothing was uncommitted. */
  snapshotCommit: string;
  notices: string[];
  /** Removes everything temporary. */
  dispose(): Promise<void>;
};

export type SnapshotResult = { ok: true; snapshot: Snapshot } | { ok: false; message: string };

export type SnapshotOptions = { maxBundleBytes?: number };

const DEFAULT_MAX_BUNDLE_BYTES = 512 * 1024 * 1024;

/** For every command that may look at contents, which writing an index may do too. Git LFS would copy contents into the user's .git, and nothing in the sandbox could read the pointers back. */
const WITHOUT_LFS = [
  '-c',
  'filter.lfs.clean=',
  '-c',
  'filter.lfs.smudge=',
  '-c',
  'filter.lfs.process=',
  '-c',
  'filter.lfs.required=false',
];

/** Carries a failure of any step to the one place that turns it into a value. */
class StepFailed extends Error {}

export async function takeSnapshot(folder: string, options: SnapshotOptions = {}): Promise<SnapshotResult> {
  const located = await locateWorktree(folder);
  if (!located.ok) return located;
  const temporary = await temporaryFolder('snapshot');
  const dispose = () => temporary.remove();
  try {
    const snapshot = await take(located.worktree, temporary.path, options);
    return { ok: true, snapshot: { ...snapshot, dispose } };
  } catch (error) {
    await dispose();
    if (error instanceof StepFailed) return { ok: false, message: error.message };
    throw error;
  }
}

async function take(
  worktree: Worktree,
  temporary: string,
  options: SnapshotOptions,
): Promise<Omit<Snapshot, 'dispose'>> {
  const beside = path.join(temporary, 'repository');
  await makeBeside(worktree, beside);
  const { tree, leftOut } = await workingTree(worktree, beside);
  const snapshotCommit = await commitOf(worktree, beside, tree);
  const bundle = await writeBundle(worktree, beside, snapshotCommit, {
    file: path.join(temporary, 'repository.bundle'),
    maxBytes: options.maxBundleBytes ?? DEFAULT_MAX_BUNDLE_BYTES,
  });
  return {
    bundlePath: bundle.file,
    sizeBytes: bundle.sizeBytes,
    root: worktree.root,
    branch: worktree.branch,
    head: worktree.head,
    snapshotRef: snapshotRefs.snapshot,
    snapshotCommit,
    notices: [...(await noticesOf(worktree, tree, beside, leftOut)), ...bundle.notices],
  };
}

/** An empty repository that reads the user's objects and writes its own. */
async function makeBeside(worktree: Worktree, beside: string): Promise<void> {
  const init = [
    'init',
    '--quiet',
    '--bare',
    '--template=',
    `--object-format=${worktree.objectFormat}`,
    beside,
  ];
  must(await git(init, { cwd: path.dirname(beside) }), 'a temporary repository could not be made');
  await mkdir(path.join(beside, 'objects', 'info'), { recursive: true });
  await writeFile(path.join(beside, 'objects', 'info', 'alternates'), `${quoted(worktree.objectsDir)}\n`);
}

/** The alternates file reads a line that begins with a quote as a C string. */
function quoted(folder: string): string {
  return /^["#]|\n/.test(folder) ? JSON.stringify(folder) : folder;
}

async function workingTree(worktree: Worktree, beside: string): Promise<{ tree: string; leftOut: string[] }> {
  const cwd = worktree.root;
  const index = path.join(beside, 'scriptorium-index');
  await copyIndex(worktree.indexFile, index);
  const env = { GIT_INDEX_FILE: index, GIT_OBJECT_DIRECTORY: path.join(beside, 'objects') };
  const failed = 'the working tree could not be read';
  must(await git([...WITHOUT_LFS, 'add', '--update', '--', '.'], { cwd, env }), failed);
  const listed = must(
    await git([...WITHOUT_LFS, 'ls-files', '-z', '--others', '--exclude-standard'], { cwd, env }),
    failed,
  );
  const untracked = listed
    .toString('latin1')
    .split('\0')
    .filter((name) => name !== '');
  // A name that ends in a slash is another repository inside this one; git would take it for a submodule.
  const leftOut = untracked.filter((name) => name.endsWith('/'));
  const files = untracked.filter((name) => !name.endsWith('/')).map((name) => `${name}\0`);
  const stdin = Buffer.from(files.join(''), 'latin1');
  must(await git([...WITHOUT_LFS, 'update-index', '--add', '-z', '--stdin'], { cwd, env, stdin }), failed);
  const tree = must(await git([...WITHOUT_LFS, 'write-tree'], { cwd, env }), failed)
    .toString()
    .trim();
  return { tree, leftOut: leftOut.map((name) => Buffer.from(name, 'latin1').toString('utf8')) };
}

/**
 * With the index git need not read unchanged files again. Its time is rounded down: git trusts an entry only if it is
 * older than the index, and a copy that looked younger would hide what was changed within the same moment.
 */
async function copyIndex(from: string, to: string): Promise<void> {
  const original = await stat(from).catch(() => null);
  if (original === null) return;
  await copyFile(from, to);
  const seconds = Math.floor(original.mtimeMs / 1000);
  await utimes(to, seconds, seconds);
}

async function commitOf(worktree: Worktree, beside: string, tree: string): Promise<string> {
  const cwd = worktree.root;
  if (worktree.head !== null) {
    const headTree = await gitText(['rev-parse', `${worktree.head}^{tree}`], { cwd });
    if (headTree === tree) return worktree.head;
  }
  const name = (await gitText(['config', 'user.name'], { cwd })) || 'Scriptorium';
  const email = (await gitText(['config', 'user.email'], { cwd })) || 'scriptorium@localhost.invalid';
  const env = {
    GIT_OBJECT_DIRECTORY: path.join(beside, 'objects'),
    GIT_AUTHOR_NAME: name,
    GIT_AUTHOR_EMAIL: email,
    GIT_COMMITTER_NAME: name,
    GIT_COMMITTER_EMAIL: email,
  };
  const parent = worktree.head === null ? [] : ['-p', worktree.head];
  const args = ['commit-tree', '--no-gpg-sign', tree, ...parent, '-m', snapshotMessage];
  return must(await git(args, { cwd, env }), 'the snapshot could not be made')
    .toString()
    .trim();
}

export const snapshotMessage = 'Your uncommitted work when the session started';

type Bundle = { file: string; sizeBytes: number; notices: string[] };

async function writeBundle(
  worktree: Worktree,
  beside: string,
  snapshotCommit: string,
  limit: { file: string; maxBytes: number },
): Promise<Bundle> {
  const { head } = worktree;
  const refs: string[] = [snapshotRefs.snapshot];
  await setRef(beside, snapshotRefs.snapshot, snapshotCommit);
  if (head !== null) {
    await setRef(beside, snapshotRefs.head, head);
    refs.push(snapshotRefs.head);
  }
  // A partial clone would fetch old contents from its remote one by one; its HEAD alone is all here, usually.
  const isCut = worktree.shallow !== null || (worktree.isPartial && head !== null);
  if (isCut) await cutHistory(beside, worktree.isPartial ? `${head}\n` : (worktree.shallow ?? ''));
  const whole = await tryBundle(beside, isCut ? [...refs, snapshotRefs.shallow] : refs, limit);
  if (whole !== 'too_large') return { ...whole, notices: isCut ? [cutNotice(worktree)] : [] };
  if (head !== null && !isCut) {
    await cutHistory(beside, `${head}\n`);
    const cut = await tryBundle(beside, [...refs, snapshotRefs.shallow], limit);
    const notice = `The history is larger than ${inMiB(limit.maxBytes)}; the agent gets the last commit without it.`;
    if (cut !== 'too_large') return { ...cut, notices: [notice] };
  }
  throw new StepFailed(
    `the repository is larger than ${inMiB(limit.maxBytes)} even without history; large files: ${await largest(worktree)}. ` +
      'Put what the agent does not need into .gitignore',
  );
}

function cutNotice(worktree: Worktree): string {
  return worktree.isPartial
    ? 'This is a partial clone; the agent gets the last commit without the history before it.'
    : 'This is a shallow clone; the agent gets as much history as is here.';
}

/** Git takes the commits named in `shallow` for roots; the list travels as a blob, to be put in place inside. */
async function cutHistory(beside: string, shallow: string): Promise<void> {
  await writeFile(path.join(beside, 'shallow'), shallow);
  const stdin = Buffer.from(shallow);
  const blob = must(
    await git(['hash-object', '-w', '--stdin'], { cwd: beside, stdin }),
    'no list of the history',
  );
  await setRef(beside, snapshotRefs.shallow, blob.toString().trim());
}

async function setRef(beside: string, ref: string, object: string): Promise<void> {
  must(await git(['update-ref', ref, object], { cwd: beside }), `${ref} could not be set`);
}

async function tryBundle(
  beside: string,
  refs: string[],
  limit: { file: string; maxBytes: number },
): Promise<{ file: string; sizeBytes: number } | 'too_large'> {
  must(
    await git(['bundle', 'create', '--quiet', limit.file, ...refs], { cwd: beside }),
    'the repository could not be packed (git fsck tells whether objects are missing)',
  );
  const { size } = await stat(limit.file);
  return size > limit.maxBytes ? 'too_large' : { file: limit.file, sizeBytes: size };
}

async function largest(worktree: Worktree): Promise<string> {
  const listed = await git(['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: worktree.root,
  });
  if (!listed.ok) return 'unknown';
  const names = [...new Set(listed.stdout.toString('utf8').split('\0'))].filter((name) => name !== '');
  const sizes = await Promise.all(
    names.map(async (name) => {
      const found = await stat(path.join(worktree.root, name)).catch(() => null);
      return { name, sizeBytes: found?.isFile() ? found.size : 0 };
    }),
  );
  const top = sizes.sort((a, b) => b.sizeBytes - a.sizeBytes).slice(0, 5);
  return top.map(({ name, sizeBytes }) => `${name} (${inMiB(sizeBytes)})`).join(', ');
}

function inMiB(sizeBytes: number): string {
  return `${(sizeBytes / 1024 / 1024).toFixed(1)} MiB`;
}

async function noticesOf(
  worktree: Worktree,
  tree: string,
  beside: string,
  leftOut: string[],
): Promise<string[]> {
  const notices: string[] = [];
  if (worktree.prefix !== '')
    notices.push(`The whole repository at ${worktree.root} is taken; the agent starts at its top.`);
  const listed = await git(['ls-tree', '-r', '-z', tree], { cwd: beside });
  const entries = listed.ok ? listed.stdout.toString('utf8').split('\0') : [];
  const submodules = entries
    .filter((entry) => entry.startsWith('160000 '))
    .map((entry) => entry.split('\t')[1]);
  if (submodules.length > 0) notices.push(`Submodules are left out: ${submodules.join(', ')}`);
  if (leftOut.length > 0) notices.push(`Repositories inside this one are left out: ${leftOut.join(', ')}`);
  const lfs = await git(['ls-files', '-z', '--', ':(attr:filter=lfs)'], { cwd: worktree.root });
  const pointers = lfs.ok ? lfs.stdout.toString('utf8').split('\0').length - 1 : 0;
  if (pointers > 0)
    notices.push(`${pointers} file(s) are kept in Git LFS; where unchanged, the agent sees the pointers.`);
  return notices;
}

function must(result: GitResult, otherwise: string): Buffer {
  if (result.ok) return result.stdout;
  throw new StepFailed(`${otherwise}: ${result.message}`);
}
