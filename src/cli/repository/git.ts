/**
 * Runs the user's own git on the user's own repository, and on temporary ones beside it.
 *
 * Promises kept here
 * - What the shell or a hook has set (GIT_DIR, GIT_INDEX_FILE, …) never redirects us: `--repo` alone says where.
 * - No hook, no file-system monitor, no automatic maintenance, no lock for a mere refresh, no question at a terminal.
 * - A git that fails is a value with git's own words; only a git that is not there is thrown, as `GitMissing`.
 */
import { spawn } from 'node:child_process';

export class GitMissing extends Error {
  override name = 'GitMissing';
}

export type GitResult =
  | { ok: true; stdout: Buffer }
  | { ok: false; exitCode: number | null; message: string };

export type GitOptions = {
  cwd: string;
  env?: Record<string, string>;
  stdin?: Uint8Array | NodeJS.ReadableStream;
  /** Beyond this much output git is ended and the call fails. */
  maxOutputBytes?: number;
  timeoutMs?: number;
};

/** Of the user's GIT_ variables only those that say which configuration and which git, never which repository. */
const KEPT = new Set([
  'GIT_CONFIG_GLOBAL',
  'GIT_CONFIG_SYSTEM',
  'GIT_CONFIG_NOSYSTEM',
  'GIT_EXEC_PATH',
  'GIT_CEILING_DIRECTORIES',
]);

const QUIET = [
  '-c',
  'core.hooksPath=/dev/null',
  '-c',
  'core.fsmonitor=false',
  '-c',
  'core.untrackedCache=false',
  '-c',
  'core.splitIndex=false',
  '-c',
  'gc.auto=0',
  '-c',
  'maintenance.auto=false',
  '-c',
  'advice.addEmbeddedRepo=false',
];

const DEFAULT_MAX_OUTPUT_BYTES = 64 * 1024 * 1024;
const STDERR_KEPT_BYTES = 8 * 1024;

export function gitEnvironment(extra: Record<string, string> = {}): Record<string, string> {
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (value === undefined) continue;
    if (name.startsWith('GIT_') && !KEPT.has(name)) continue;
    env[name] = value;
  }
  return {
    ...env,
    LC_ALL: 'C',
    GIT_TERMINAL_PROMPT: '0',
    GIT_OPTIONAL_LOCKS: '0',
    GIT_NO_REPLACE_OBJECTS: '1',
    ...extra,
  };
}

export function git(args: readonly string[], options: GitOptions): Promise<GitResult> {
  const maxOutputBytes = options.maxOutputBytes ?? DEFAULT_MAX_OUTPUT_BYTES;
  return new Promise((resolve, reject) => {
    const child = spawn('git', [...QUIET, ...args], {
      cwd: options.cwd,
      env: gitEnvironment(options.env),
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: options.timeoutMs ?? 0,
      killSignal: 'SIGKILL',
    });
    const stdout: Buffer[] = [];
    let stderr = '';
    let sizeBytes = 0;
    let isTooMuch = false;
    child.stdout.on('data', (chunk: Buffer) => {
      sizeBytes += chunk.length;
      if (sizeBytes > maxOutputBytes) {
        isTooMuch = true;
        child.kill('SIGKILL');
      } else stdout.push(chunk);
    });
    child.stderr.on('data', (chunk: Buffer) => {
      if (stderr.length < STDERR_KEPT_BYTES) stderr += chunk.toString('utf8');
    });
    // A git that ends before it has read everything closes the pipe; its exit code says why.
    child.stdin.on('error', () => {});
    if (options.stdin === undefined || options.stdin instanceof Uint8Array)
      child.stdin.end(options.stdin ?? '');
    else options.stdin.pipe(child.stdin);
    child.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT')
        reject(
          new GitMissing('git was not found on PATH (or the folder is gone); install git and try again'),
        );
      else reject(error);
    });
    child.once('close', (exitCode, signal) => {
      if (exitCode === 0) resolve({ ok: true, stdout: Buffer.concat(stdout) });
      else resolve({ ok: false, exitCode, message: whatWentWrong(stderr, signal, isTooMuch, args[0] ?? '') });
    });
  });
}

function whatWentWrong(stderr: string, signal: string | null, isTooMuch: boolean, command: string): string {
  if (isTooMuch) return `git ${command} said more than we read`;
  const text = stderr.replace(/^(fatal|error): /gm, '').trim();
  if (text !== '') return text;
  return signal === null ? `git ${command} failed` : `git ${command} was ended by ${signal}`;
}

/** The trimmed text of a command that is expected to work; null where it fails. */
export async function gitText(args: readonly string[], options: GitOptions): Promise<string | null> {
  const result = await git(args, options);
  return result.ok ? result.stdout.toString('utf8').replace(/\n$/, '') : null;
}
