/**
 * From a parsed patch to one set of file edits. Everything is worked out before anything is written: if one hunk of one
 * file does not fit, nothing is changed (Codex leaves earlier files changed; we do not).
 *
 * Every edit names the content that it was worked out from, so that a change in between is refused, not lost. New
 * content is written before old names are removed: a host that dies half way has lost nothing.
 */
import type { Edit } from '../../sandbox/executor.ts';
import { applyHunks } from './match.ts';
import type { FileChange } from './parse.ts';

/** What the disk holds at a path. */
export type Found =
  | { state: 'absent' }
  /** `text` is null where the bytes are no UTF-8 text; such a file can be replaced or removed, not updated. */
  | { state: 'file'; text: string | null; sha256: string; mode: number | null }
  | { state: 'unusable'; message: string };

export type PatchPlan = { ok: true; edits: Edit[] } | { ok: false; message: string };

type Content = { kind: 'absent' } | { kind: 'text'; text: string } | { kind: 'opaque' };

type FileState = {
  path: string;
  was: Extract<Found, { state: 'absent' | 'file' }>;
  now: Content;
  mode: number | null;
};

export async function planPatch(
  changes: readonly FileChange[],
  resolve: (path: string) => string,
  look: (path: string, shownPath: string) => Promise<Found>,
): Promise<PatchPlan> {
  const planner = new Planner(resolve, look);
  for (const change of changes) {
    const problem = await planner.add(change);
    if (problem !== null) return { ok: false, message: problem };
  }
  return planner.plan();
}

/** The touched files as they will be, change after change. Methods answer with what is wrong, or null. */
class Planner {
  readonly #resolve: (path: string) => string;
  readonly #look: (path: string, shownPath: string) => Promise<Found>;
  readonly #states = new Map<string, FileState>();

  constructor(resolve: (path: string) => string, look: (path: string, shownPath: string) => Promise<Found>) {
    this.#resolve = resolve;
    this.#look = look;
  }

  async add(change: FileChange): Promise<string | null> {
    const file = await this.#open(change.path);
    if (typeof file === 'string') return file;
    if (change.type === 'add') {
      file.now = { kind: 'text', text: change.lines.map((line) => `${line}\n`).join('') };
      return null;
    }
    if (file.now.kind === 'absent') return `${change.path} does not exist, so it cannot be ${change.type}d.`;
    if (change.type === 'update') return this.#update(change, file);
    file.now = { kind: 'absent' };
    return null;
  }

  plan(): PatchPlan {
    const states = [...this.#states.values()];
    const edits = [...states.flatMap(put), ...states.flatMap(removal)];
    if (edits.length > 0) return { ok: true, edits };
    return { ok: false, message: 'The patch changes nothing: every file already is as it says.' };
  }

  async #update(change: FileChange & { type: 'update' }, file: FileState): Promise<string | null> {
    const { path, moveTo, hunks } = change;
    if (file.now.kind !== 'text') return `${path} is not UTF-8 text, so it cannot be updated.`;
    const updated = applyHunks(file.now.text, hunks, path);
    if (!updated.ok) return updated.message;
    const target = moveTo === null ? file : await this.#open(moveTo);
    if (typeof target === 'string') return target;
    if (target !== file) {
      file.now = { kind: 'absent' };
      target.mode = file.mode;
    }
    target.now = { kind: 'text', text: updated.text };
    return null;
  }

  async #open(shownPath: string): Promise<FileState | string> {
    const path = this.#resolve(shownPath);
    const known = this.#states.get(path);
    if (known) return known;
    const was = await this.#look(path, shownPath);
    if (was.state === 'unusable') return was.message;
    const state: FileState = { path, was, now: contentOf(was), mode: was.state === 'file' ? was.mode : null };
    this.#states.set(path, state);
    return state;
  }
}

function contentOf(was: FileState['was']): Content {
  if (was.state === 'absent') return { kind: 'absent' };
  return was.text === null ? { kind: 'opaque' } : { kind: 'text', text: was.text };
}

function put({ path, was, now, mode }: FileState): Edit[] {
  if (now.kind !== 'text' || (was.state === 'file' && was.text === now.text)) return [];
  const edit: Edit = {
    path,
    content: Buffer.from(now.text),
    expectSha256: was.state === 'file' ? was.sha256 : null,
  };
  return [was.state === 'absent' && mode !== null ? { ...edit, mode } : edit];
}

function removal({ path, was, now }: FileState): Edit[] {
  return now.kind === 'absent' && was.state === 'file'
    ? [{ path, content: null, expectSha256: was.sha256 }]
    : [];
}
