/**
 * Brings a delivered bundle into the user's repository as one new branch.
 *
 * Promises kept here
 * - The bundle is a stranger's bytes. It is unpacked with full checks into a temporary repository, looked at there,
 *   and only then fetched, with checks again, into the user's: what is refused leaves nothing behind.
 * - Nothing is checked out, no hook runs, no submodule or remote is contacted, no other ref changes.
 * - A branch that exists with other commits is never overwritten.
 */
import { createReadStream } from 'node:fs';
import { copyFile, mkdir, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { BundleHead } from './bundle-file.ts';
import { readBundleHead } from './bundle-file.ts';
import { git, gitText } from './git.ts';
import type { InspectionLimits } from './inspect.ts';
import { inspectCommits } from './inspect.ts';
import { temporaryFolder } from './temporary.ts';

export type ApplyRequest = {
  /** Anywhere in the user's repository. */
  folder: string;
  bundlePath: string;
  /** What the server said is in it. */
  ref: string;
  head: string;
  branch: string;
  limits?: Partial<InspectionLimits & { maxBundleBytes: number }>;
};

export type Applied =
  | {
      ok: true;
      branch: string;
      head: string;
      /** False where the branch was there already, with these very commits. */
      isNew: boolean;
      /** Oldest first. */
      commits: { sha: string; subject: string }[];
      /** The newest commit of the user that the branch stands on; null for a branch of its own. */
      onto: string | null;
    }
  | { ok: false; message: string };

const defaultLimits = {
  maxBundleBytes: 1024 * 1024 * 1024,
  maxObjectBytes: 1024 * 1024 * 1024,
  maxTotalBytes: 8 * 1024 * 1024 * 1024,
  maxObjects: 2_000_000,
};
const UNPACK_TIMEOUT_MS = 10 * 60_000;
const STRICT = [
  '-c',
  'transfer.fsckObjects=true',
  '-c',
  'fetch.fsckObjects=true',
  '-c',
  'receive.fsckObjects=true',
];

export async function applyBundle(request: ApplyRequest): Promise<Applied> {
  const common = await gitText(['rev-parse', '--git-common-dir'], { cwd: request.folder });
  if (common === null)
    return refused(`${path.resolve(request.folder)} is not in a git repository that git opens`);
  const branchRef = `refs/heads/${request.branch}`;
  const valid = await git(['check-ref-format', '--branch', request.branch], { cwd: request.folder });
  if (!valid.ok || request.branch.startsWith('-'))
    return refused(`"${request.branch}" cannot be the name of a branch`);
  const taken = await gitText(['rev-parse', '--verify', '--quiet', branchRef], { cwd: request.folder });
  if (taken !== null && taken !== request.head)
    return refused(
      `the branch ${request.branch} exists already with other commits; give another name with --branch, or remove it with: git branch -D ${request.branch}`,
    );
  const read = await readHead(request);
  if (!read.ok) return read;
  const missing = await missingOf(request.folder, read.head.prerequisites);
  if (missing.length > 0)
    return refused(
      `this repository lacks ${missing[0]?.slice(0, 12)}, the commit the session began with; is it the right --repo?`,
    );
  return intoBranch(request, read.head, { isNew: taken === null, branchRef });
}

async function readHead(
  request: ApplyRequest,
): Promise<{ ok: true; head: BundleHead } | { ok: false; message: string }> {
  const { size } = await stat(request.bundlePath);
  const maxBytes = request.limits?.maxBundleBytes ?? defaultLimits.maxBundleBytes;
  if (size > maxBytes) return refused(`the bundle has ${size} bytes, more than ${maxBytes}`);
  const read = await readBundleHead(request.bundlePath);
  if (!read.ok) return read;
  const [only, ...others] = read.head.refs;
  if (only === undefined || others.length > 0 || only.name !== request.ref || only.sha !== request.head)
    return refused('the bundle does not hold the one ref and commit that the server named');
  return read;
}

async function missingOf(cwd: string, commits: readonly string[]): Promise<string[]> {
  const missing: string[] = [];
  for (const sha of commits) {
    const found = await git(['cat-file', '-e', `${sha}^{commit}`], { cwd });
    if (!found.ok) missing.push(sha);
  }
  return missing;
}

async function intoBranch(
  request: ApplyRequest,
  head: BundleHead,
  target: { isNew: boolean; branchRef: string },
): Promise<Applied> {
  const temporary = await temporaryFolder('apply');
  try {
    const beside = path.join(temporary.path, 'repository');
    const made = await makeBeside(request.folder, beside, head);
    if (!made.ok) return refused(made.message);
    const unpacked = await unpack(request, head, beside);
    if (!unpacked.ok) return refused(`git finds it broken or hostile: ${unpacked.message}`);
    const limits = { ...defaultLimits, ...request.limits };
    const inspected = await inspectCommits(beside, request.head, head.prerequisites, limits);
    if (!inspected.ok) return inspected;
    if (target.isNew) {
      const fetched = await fetchBranch(request.folder, beside, request.head, target.branchRef);
      if (!fetched.ok) return refused(fetched.message);
    }
    return {
      ok: true,
      branch: request.branch,
      head: request.head,
      isNew: target.isNew,
      commits: await commitsOf(beside, request.head, head.prerequisites),
      onto: head.prerequisites[0] ?? null,
    };
  } finally {
    await temporary.remove();
  }
}

async function makeBeside(folder: string, beside: string, head: BundleHead) {
  const init = ['init', '--quiet', '--bare', '--template=', `--object-format=${head.objectFormat}`, beside];
  const made = await git(init, { cwd: path.dirname(beside) });
  if (!made.ok) return made;
  const cwd = path.resolve(folder);
  const objects = path.resolve(cwd, (await gitText(['rev-parse', '--git-path', 'objects'], { cwd })) ?? '');
  await mkdir(path.join(beside, 'objects', 'info'), { recursive: true });
  const line = /^["#]|\n/.test(objects) ? JSON.stringify(objects) : objects;
  await writeFile(path.join(beside, 'objects', 'info', 'alternates'), `${line}\n`);
  const shallow = path.resolve(cwd, (await gitText(['rev-parse', '--git-path', 'shallow'], { cwd })) ?? '');
  await copyFile(shallow, path.join(beside, 'shallow')).catch(() => {});
  return made;
}

/** Not `git bundle unbundle`: it checks objects only from git 2.46 on. `--strict` makes every warning a refusal. */
function unpack(request: ApplyRequest, head: BundleHead, beside: string) {
  const maxBytes = request.limits?.maxBundleBytes ?? defaultLimits.maxBundleBytes;
  return git(
    [
      '-c',
      'core.bigFileThreshold=16m',
      'index-pack',
      '--stdin',
      '--fix-thin',
      '--strict',
      `--max-input-size=${maxBytes}`,
    ],
    {
      cwd: beside,
      stdin: createReadStream(request.bundlePath, { start: head.packOffset }),
      timeoutMs: UNPACK_TIMEOUT_MS,
    },
  );
}

async function fetchBranch(folder: string, beside: string, head: string, branchRef: string) {
  const offered = 'refs/heads/delivered';
  const set = await git(['update-ref', offered, head], { cwd: beside });
  if (!set.ok) return set;
  const quiet = [
    '--quiet',
    '--no-tags',
    '--no-write-fetch-head',
    '--no-recurse-submodules',
    '--no-auto-maintenance',
  ];
  return git(
    [...STRICT, '-c', 'protocol.file.allow=always', 'fetch', ...quiet, beside, `${offered}:${branchRef}`],
    {
      cwd: folder,
      timeoutMs: UNPACK_TIMEOUT_MS,
    },
  );
}

async function commitsOf(cwd: string, tip: string, known: readonly string[]) {
  const not = known.map((sha) => `^${sha}`);
  const log = await git(['log', '-z', '--reverse', '--topo-order', '--format=%H %s', tip, ...not], { cwd });
  if (!log.ok) return [];
  return log.stdout
    .toString('utf8')
    .split('\0')
    .filter((line) => line !== '')
    .map((line) => ({ sha: line.slice(0, line.indexOf(' ')), subject: line.slice(line.indexOf(' ') + 1) }));
}

function refused(why: string): { ok: false; message: string } {
  return { ok: false, message: `Not applied: ${why}` };
}
