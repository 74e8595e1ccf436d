/**
 * What the agent changed: the whole state of the workspace (commits, uncommitted and untracked files that are not
 * ignored) against the working tree as the user had it.
 *
 * Promises kept here
 * - S3: computed inside the sandbox; names and text are a stranger's bytes, capped, and decoded without trust.
 * - The agent's repository is not touched, and its configuration (external diff, text conversion) is not asked.
 */
import type { CallRef, Executor } from '../sandbox/executor.ts';
import type { RepositoryPin } from '../session/events.ts';
import { runScript } from './in-sandbox.ts';
import { uploadPath } from './layout.ts';
import { workspaceStateScript } from './workspace-state.ts';

export type FileChange = {
  path: string;
  status: 'added' | 'modified' | 'deleted' | 'renamed' | 'copied' | 'type_changed';
  /** Where the file was before, if it was moved. */
  oldPath: string | null;
  /** Lines; null for binary files. */
  added: number | null;
  removed: number | null;
};

export type WorkspaceDiff =
  | {
      ok: true;
      base: string;
      /** Unified diff, git's own; cut at `maxBytes`. */
      diff: string;
      files: FileChange[];
      isWhole: boolean;
    }
  | { ok: false; message: string };

export type DiffOptions = { maxBytes?: number; signal?: AbortSignal };

const DEFAULT_MAX_BYTES = 1024 * 1024;
const NUMSTAT_MAX_BYTES = 1024 * 1024;
const TIMEOUT_MS = 120_000;

export async function diffWorkspace(
  executor: Executor,
  ref: CallRef,
  pin: RepositoryPin,
  baseCommit: string,
  options: DiffOptions = {},
): Promise<WorkspaceDiff> {
  const maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES;
  const outcome = await runScript(executor, ref, {
    script: workspaceStateScript + diffScript,
    args: [
      pin.mountPath,
      uploadPath(pin),
      baseCommit,
      pin.head ?? '',
      String(maxBytes),
      String(NUMSTAT_MAX_BYTES),
    ],
    cwd: pin.mountPath,
    timeoutMs: TIMEOUT_MS,
    maxOutputBytes: maxBytes + NUMSTAT_MAX_BYTES + 1024,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  if (!outcome.ok) return { ok: false, message: `The diff could not be made: ${outcome.message}` };
  const at = outcome.stdout.indexOf(separator);
  if (at === -1) return { ok: false, message: 'The diff could not be made: too many files changed' };
  const patch = outcome.stdout.subarray(at + separator.length);
  return {
    ok: true,
    base: baseCommit,
    diff: patch.subarray(0, maxBytes).toString('utf8'),
    files: readChanges(outcome.stdout.subarray(0, at).toString('utf8')),
    isWhole: patch.length <= maxBytes,
  };
}

/** No path holds a NUL and no count is empty, so two NULs and a line end never stand in a list of changes. */
const separator = Buffer.from('\0\0\n');

const diffScript = `
git diff-tree -r -z --raw --numstat -M --no-ext-diff --no-textconv "$base" "$tree" | head -c "$6"
printf '\\000\\000\\n'
git diff-tree -r -p -M --no-color --no-ext-diff --no-textconv --src-prefix=a/ --dst-prefix=b/ "$base" "$tree" | head -c "$(($5 + 1))"
`;

const statuses: Record<string, FileChange['status']> = {
  A: 'added',
  M: 'modified',
  D: 'deleted',
  R: 'renamed',
  C: 'copied',
  T: 'type_changed',
};

/**
 * First `:modes ids LETTER NUL path NUL` for every file (two paths for a move), then
 * `added TAB removed TAB path NUL`, where for a move the path is empty and old and new path follow.
 */
export function readChanges(text: string): FileChange[] {
  const fields = text.split('\0');
  const status = new Map<string, FileChange['status']>();
  const changes: FileChange[] = [];
  for (let at = 0; at < fields.length; at++) {
    const field = fields[at] ?? '';
    const raw = /^:\d+ \d+ [0-9a-f]+ [0-9a-f]+ ([A-Z])\d*$/.exec(field);
    const counts = /^(\d+|-)\t(\d+|-)\t([\s\S]*)$/.exec(field);
    if (raw !== null) {
      at += raw[1] === 'R' || raw[1] === 'C' ? 2 : 1;
      status.set(fields[at] ?? '', statuses[raw[1] ?? ''] ?? 'modified');
    } else if (counts !== null) {
      const isMove = counts[3] === '';
      if (isMove) at += 2;
      const path = isMove ? (fields[at] ?? '') : (counts[3] ?? '');
      changes.push({
        path,
        status: status.get(path) ?? 'modified',
        oldPath: isMove ? (fields[at - 1] ?? '') : null,
        added: counts[1] === '-' ? null : Number(counts[1]),
        removed: counts[2] === '-' ? null : Number(counts[2]),
      });
    }
  }
  return changes;
}
