/** Finds the repository that `--repo` means, and says in one line why there is none that we can take. */
import { realpathSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { git, gitText } from './git.ts';

export type Worktree = {
  /** Top of the working tree. */
  root: string;
  /** Where in it the user pointed, '' for the top. */
  prefix: string;
  gitDir: string;
  objectsDir: string;
  indexFile: string;
  objectFormat: string;
  /** Branch HEAD names, also before its first commit; null where HEAD is detached. */
  branch: string | null;
  /** null: no commit yet. */
  head: string | null;
  /** Content of the `shallow` file; null for a clone with its whole history. */
  shallow: string | null;
  isPartial: boolean;
};

export type Located = { ok: true; worktree: Worktree } | { ok: false; message: string };

export async function locateWorktree(folder: string): Promise<Located> {
  const cwd = path.resolve(folder);
  const real = existing(cwd);
  if (real === null) return { ok: false, message: `${cwd} does not exist` };
  const inside = await git(['rev-parse', '--is-bare-repository', '--is-inside-work-tree'], { cwd: real });
  if (!inside.ok) return { ok: false, message: notARepository(cwd, inside.message) };
  const [isBare, isInside] = inside.stdout.toString().split('\n');
  if (isBare === 'true')
    return { ok: false, message: `${cwd} is a bare repository: there is no working tree to take` };
  if (isInside !== 'true')
    return { ok: false, message: `${cwd} lies inside a .git folder; point --repo at the working tree` };
  const root = (await one(real, ['rev-parse', '--show-toplevel'])) ?? real;
  const gitDir = path.resolve(root, (await one(root, ['rev-parse', '--absolute-git-dir'])) ?? '.git');
  const at = async (name: string) =>
    path.resolve(root, (await one(root, ['rev-parse', '--git-path', name])) ?? path.join('.git', name));
  const shallowFile = await at('shallow');
  return {
    ok: true,
    worktree: {
      root,
      prefix: (await one(real, ['rev-parse', '--show-prefix'])) ?? '',
      gitDir,
      objectsDir: await at('objects'),
      indexFile: await at('index'),
      objectFormat: (await one(root, ['rev-parse', '--show-object-format'])) ?? 'sha1',
      branch: shortBranch(await one(root, ['symbolic-ref', '--quiet', 'HEAD'])),
      head: await one(root, ['rev-parse', '--verify', '--quiet', 'HEAD^{commit}']),
      shallow: await contentOf(shallowFile),
      isPartial: (await one(root, ['config', '--get', 'extensions.partialClone'])) !== null,
    },
  };
}

function existing(folder: string): string | null {
  try {
    return realpathSync(folder);
  } catch {
    return null;
  }
}

function one(cwd: string, args: string[]): Promise<string | null> {
  return gitText(args, { cwd });
}

function shortBranch(ref: string | null): string | null {
  return ref?.startsWith('refs/heads/') ? ref.slice('refs/heads/'.length) : null;
}

async function contentOf(file: string): Promise<string | null> {
  try {
    const text = await readFile(file, 'utf8');
    return text.trim() === '' ? null : text;
  } catch {
    return null;
  }
}

function notARepository(cwd: string, message: string): string {
  if (/not a git repository/.test(message))
    return `${cwd} is not in a git repository; run \`git init\` there first, or point --repo at one`;
  // Dubious ownership and the like: git already says what to do.
  return `git does not open ${cwd}: ${message}`;
}
