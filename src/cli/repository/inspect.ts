/**
 * Looks at delivered commits in a repository of our own, before anything of them reaches the user's.
 *
 * What git's own fsck refuses is refused before this (names like `.git`, broken trees, tricks with `.gitmodules`).
 * Here: sizes that only show when unpacked, and symbolic links that would lead out of the working tree once somebody
 * checks the branch out. Links the user's own commit already had are the user's.
 */
import path from 'node:path';
import { git } from './git.ts';

export type Inspection = { ok: true } | { ok: false; message: string };

export type InspectionLimits = { maxObjectBytes: number; maxTotalBytes: number; maxObjects: number };

const LINK_MODE = '120000';
const MAX_LINK_BYTES = 4096;
const MAX_LISTING_BYTES = 256 * 1024 * 1024;

/** `known`: commits the user has; everything reachable from `tip` and not from them is looked at. */
export async function inspectCommits(
  repository: string,
  tip: string,
  known: readonly string[],
  limits: InspectionLimits,
): Promise<Inspection> {
  const cwd = repository;
  const not = known.map((sha) => `^${sha}`);
  const listed = await git(['rev-list', '--objects', '--no-object-names', tip, ...not], {
    cwd,
    maxOutputBytes: MAX_LISTING_BYTES,
  });
  if (!listed.ok) return refused(`its commits do not hang together: ${listed.message}`);
  const count = listed.stdout.toString('latin1').split('\n').length - 1;
  if (count > limits.maxObjects) return refused(`it has ${count} objects`);
  const size = await sizesOf(cwd, listed.stdout, limits);
  if (!size.ok) return size;
  return linksOf(cwd, tip, not);
}

async function sizesOf(cwd: string, objects: Buffer, limits: InspectionLimits): Promise<Inspection> {
  const checked = await git(['cat-file', '--batch-check=%(objectsize)'], { cwd, stdin: objects });
  if (!checked.ok) return refused(checked.message);
  let totalBytes = 0;
  for (const line of checked.stdout.toString('latin1').split('\n')) {
    if (line === '') continue;
    const sizeBytes = Number(line);
    if (!Number.isFinite(sizeBytes)) return refused('an object of it is missing');
    if (sizeBytes > limits.maxObjectBytes) return refused(`a file in it has ${sizeBytes} bytes`);
    totalBytes += sizeBytes;
  }
  if (totalBytes > limits.maxTotalBytes) return refused(`it unpacks to ${totalBytes} bytes`);
  return { ok: true };
}

async function linksOf(cwd: string, tip: string, not: readonly string[]): Promise<Inspection> {
  const commits = await git(['rev-list', tip, ...not], { cwd });
  if (!commits.ok) return refused(commits.message);
  const seen = new Set<string>();
  for (const commit of commits.stdout.toString('latin1').split('\n').filter(Boolean)) {
    // -m: a merge is compared with each parent; --root: a first commit with nothing.
    const args = [
      'diff-tree',
      '-r',
      '-z',
      '-m',
      '--root',
      '--no-renames',
      '--raw',
      '--no-abbrev',
      '--no-commit-id',
      commit,
    ];
    const raw = await git(args, { cwd, maxOutputBytes: MAX_LISTING_BYTES });
    if (!raw.ok) return refused(raw.message);
    for (const link of addedLinks(raw.stdout)) {
      const key = `${link.blob} ${link.name}`;
      if (seen.has(key)) continue;
      seen.add(key);
      const problem = await judgeLink(cwd, link);
      if (problem !== null) return refused(problem);
    }
  }
  return { ok: true };
}

type Link = { name: string; blob: string };

function addedLinks(raw: Buffer): Link[] {
  const fields = raw.toString('utf8').split('\0');
  const links: Link[] = [];
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const match = /^:[0-7]+ ([0-7]+) [0-9a-f]+ ([0-9a-f]+) /.exec(fields[at] ?? '');
    if (match?.[1] === LINK_MODE) links.push({ name: fields[at + 1] ?? '', blob: match[2] ?? '' });
  }
  return links;
}

async function judgeLink(cwd: string, link: Link): Promise<string | null> {
  const read = await git(['cat-file', 'blob', link.blob], { cwd, maxOutputBytes: MAX_LINK_BYTES });
  if (!read.ok) return `the link ${link.name} cannot be read`;
  const target = read.stdout.toString('utf8');
  return leadsOut(link.name, target)
    ? `the link ${link.name} leads out of the repository, to ${target}`
    : null;
}

/** Whether a link, checked out, would point outside the working tree or into `.git`. Pure text, no disk is asked. */
export function leadsOut(name: string, target: string): boolean {
  if (target === '' || path.posix.isAbsolute(target) || target.includes('\0')) return true;
  const resolved = path.posix.normalize(path.posix.join(path.posix.dirname(name), target));
  const first = resolved.split('/')[0] ?? '';
  return first === '..' || first.toLowerCase() === '.git';
}

function refused(why: string): { ok: false; message: string } {
  return { ok: false, message: `The delivered commits are refused: ${why}` };
}
