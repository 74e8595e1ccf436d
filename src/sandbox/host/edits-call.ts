/**
 * One `fs/applyEdits`: several files, each replaced atomically, journalled with full contents before the first.
 *
 * Promises
 * - Nothing is changed when any file is not what its edit expects (checked before the first change, and again by the
 *   guest at each).
 * - What was begun is finished by the next host (`resume`): edits that are already in place are recognised by content.
 */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { RunningSandbox } from '../backend.ts';
import { type Edit, type EditsDone, isRefusal, type Refusal } from '../executor.ts';
import { applyEdit, digest } from '../guest/files.ts';
import type { Journal, JournalledEdit } from './journal.ts';

type EditedFile = EditsDone['files'][number];

export class EditsCall {
  readonly kind = 'edits';
  readonly callId: string;
  readonly contentHash: string;
  /** Kept only until it is done. */
  edits: Edit[] | null;
  outcome: EditsDone | Refusal | null = null;
  running: Promise<EditsDone | Refusal> | null = null;
  /** Settles once the journal has it: no file is touched before (L5). */
  begun: Promise<void> = Promise.resolve();

  constructor(callId: string, contentHash: string, edits: Edit[] | null) {
    this.callId = callId;
    this.contentHash = contentHash;
    this.edits = edits;
  }

  /** Makes the edits, or joins who is making them. Rejects with LinkEnded when the sandbox ends meanwhile. */
  run(sandbox: RunningSandbox, journal: Journal, isResumed: boolean): Promise<EditsDone | Refusal> {
    if (this.outcome !== null) return Promise.resolve(this.outcome);
    this.running ??= this.#make(sandbox, journal, isResumed).finally(() => {
      this.running = null;
    });
    return this.running;
  }

  async #make(sandbox: RunningSandbox, journal: Journal, isResumed: boolean): Promise<EditsDone | Refusal> {
    await this.begun;
    const edits = (this.edits ?? []).map((edit) => ({ ...edit, path: sandbox.inside(edit.path) }));
    const outcome = await makeEdits(sandbox, edits, crc32(this.callId), isResumed);
    const told = isRefusal(outcome)
      ? outcome
      : { files: outcome.files.map((file) => ({ ...file, path: sandbox.outside(file.path) })) };
    journal.written({ type: 'edited', callId: this.callId, outcome: told });
    this.outcome = told;
    this.edits = null;
    return told;
  }
}

async function makeEdits(
  sandbox: RunningSandbox,
  edits: Edit[],
  tag: number,
  isResumed: boolean,
): Promise<EditsDone | Refusal> {
  const files: EditedFile[] = [];
  if (isResumed) files.push(...(await editsInPlace(sandbox, edits)));
  else {
    const problem = await firstUnexpected(sandbox, edits);
    if (problem !== null) return problem;
  }
  for (const [i, edit] of edits.entries()) {
    if (i < files.length) continue;
    const done = await applyEdit(sandbox.link, edit, (tag + i) >>> 0);
    if (isRefusal(done)) return done;
    files.push(done);
  }
  return { files };
}

/** Looks at every file before any is touched. Only the first edit of a path can be judged by what is there now. */
async function firstUnexpected(sandbox: RunningSandbox, edits: Edit[]): Promise<Refusal | null> {
  const seen = new Set<string>();
  for (const edit of edits) {
    if (seen.has(edit.path) || edit.expectSha256 === undefined) continue;
    seen.add(edit.path);
    const found = await digest(sandbox.link, edit.path);
    if (isRefusal(found)) return found;
    const now = found.exists ? found.sha256 : null;
    if (now !== edit.expectSha256) {
      const message =
        now === null ? 'does not exist' : edit.expectSha256 === null ? 'exists already' : 'has changed';
      return { refused: 'changed', message: `${edit.path}: ${message}` };
    }
  }
  return null;
}

function resultOf(edit: Edit): string | null {
  return edit.content === null ? null : createHash('sha256').update(edit.content).digest('hex');
}

/** The longest beginning of `edits` whose results are all there: what was done before the host died. */
async function editsInPlace(sandbox: RunningSandbox, edits: Edit[]): Promise<EditedFile[]> {
  const now = new Map<string, string | null>();
  for (const { path } of edits) {
    if (now.has(path)) continue;
    const found = await digest(sandbox.link, path);
    now.set(path, isRefusal(found) ? '' : found.exists ? found.sha256 : null);
  }
  for (let count = edits.length; count > 0; count--) {
    const results = new Map(edits.slice(0, count).map((edit) => [edit.path, resultOf(edit)]));
    if (![...results].every(([path, result]) => now.get(path) === result)) continue;
    return edits.slice(0, count).map((edit) => ({
      path: edit.path,
      sizeBytes: edit.content?.length ?? 0,
      sha256: resultOf(edit),
      existed: edit.expectSha256 !== null,
    }));
  }
  return [];
}

export function journalled(edit: Edit): JournalledEdit {
  const content = edit.content === null ? null : Buffer.from(edit.content).toString('base64');
  return { ...edit, content };
}

export function unjournalled(edit: JournalledEdit): Edit {
  return { ...edit, content: edit.content === null ? null : Buffer.from(edit.content, 'base64') };
}
