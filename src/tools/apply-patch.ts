/**
 * The apply_patch tool: several changes to several files in the envelope of Codex, made all or none. `keyed` by the
 * call id (L6), one journalled set of edits; see apply-patch/ for the format, the matching and the plan.
 */
import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import { z } from 'zod';
import type { CallStatus, EditsDone } from '../sandbox/executor.ts';
import { isRefusal } from '../sandbox/executor.ts';
import { parsePatch } from './apply-patch/parse.ts';
import type { Found } from './apply-patch/plan.ts';
import { planPatch } from './apply-patch/plan.ts';
import type { PlannedEdits } from './edits-call.ts';
import { applyPlanned, recoverEdits } from './edits-call.ts';
import { failed, interruptedText, succeeded } from './outcome.ts';
import { resolvePath } from './path.ts';
import { decodeExactly, unreadable } from './text-file.ts';
import type { Tool, ToolContext, ToolOutcome } from './tool.ts';

/** The whole file travels and is held in memory. */
const maxFileBytes = 8 * 1024 * 1024;

const inputSchema = z.strictObject({
  input: z.string().min(1).describe('The whole patch, from "*** Begin Patch" to "*** End Patch".'),
});

type ApplyPatchInput = z.infer<typeof inputSchema>;

async function plan(input: ApplyPatchInput, context: ToolContext): Promise<PlannedEdits> {
  const no = (text: string): PlannedEdits => ({
    ok: false,
    outcome: failed(`${text}\nNothing was changed.`),
  });
  const parsed = parsePatch(input.input);
  if (!parsed.ok) return no(`The patch cannot be read. ${parsed.message}`);
  const bad = pathsOf(parsed.changes).find((path) => path.includes('\0') || Buffer.byteLength(path) > 4096);
  if (bad !== undefined) return no('The patch names a file by a path that cannot exist.');
  const planned = await planPatch(
    parsed.changes,
    (path) => resolvePath(context.cwd, path),
    (path, shownPath) => look(context, path, shownPath),
  );
  if (!planned.ok) return no(`The patch does not fit. ${planned.message}`);
  return { ok: true, edits: planned.edits, describe: (done) => describe(context.cwd, done) };
}

function pathsOf(changes: { path: string; moveTo?: string | null }[]): string[] {
  return changes.flatMap(({ path, moveTo }) => (moveTo ? [path, moveTo] : [path]));
}

async function look(context: ToolContext, path: string, shownPath: string): Promise<Found> {
  const { session, fence, executor } = context;
  const read = await executor.readFile({ session, fence, path, maxBytes: maxFileBytes });
  if (isRefusal(read)) {
    const not = await unreadable(context, read, path, shownPath);
    return not.reason === 'absent' ? { state: 'absent' } : { state: 'unusable', message: not.message };
  }
  if (!read.isWhole) {
    const message = `${shownPath} is ${read.sizeBytes} bytes, too large for a patch. Use bash.`;
    return { state: 'unusable', message };
  }
  const stat = await executor.stat({ session, fence, path });
  return {
    state: 'file',
    text: decodeExactly(read.data),
    sha256: createHash('sha256').update(read.data).digest('hex'),
    mode: isRefusal(stat) || stat.type !== 'file' ? null : stat.mode & 0o777,
  };
}

/** From the journal's word alone, so that a takeover says the same as the first engine would have. */
function describe(cwd: string, done: EditsDone): ToolOutcome {
  const lines = done.files.map(({ path, sha256, existed }) => {
    const letter = sha256 === null ? 'D' : existed ? 'M' : 'A';
    return `${letter} ${shortened(cwd, path)}`;
  });
  const text = `Success. Updated the following files:\n${lines.join('\n')}`;
  return succeeded(text, { files: done.files.map((file) => file.path) });
}

function shortened(cwd: string, path: string): string {
  const relative = posix.relative(cwd, path);
  return relative.startsWith('..') ? path : relative;
}

async function run(input: ApplyPatchInput, context: ToolContext): Promise<ToolOutcome> {
  if (context.signal.aborted) return failed(interruptedText);
  return applyPlanned(context, await plan(input, context));
}

async function recover(
  input: ApplyPatchInput,
  context: ToolContext,
  status: CallStatus,
): Promise<ToolOutcome> {
  return recoverEdits(
    context,
    status,
    (done) => describe(context.cwd, done),
    () => plan(input, context),
  );
}

const description = `Add, change, move and delete text files with one patch. If any part does not fit, nothing is changed.

*** Begin Patch
*** Add File: path/new.txt
+every line of the new file begins with a plus
*** Update File: path/old.py
*** Move to: path/renamed.py
@@ class Example
@@ def method(self):
 an unchanged line for context, with a leading space
-a line to remove
+a line to add
*** Delete File: path/obsolete.txt
*** End Patch

"Move to" and "@@" lines are optional: "@@" names a whole line above the change where the context alone is not unique, and separates the hunks of a file. Give three lines of context around each change. "*** End of File" after a hunk says that it reaches the end of the file. Paths are absolute or relative to the working directory.`;

export const applyPatch: Tool<ApplyPatchInput> = {
  name: 'apply_patch',
  description,
  input: inputSchema,
  effect: 'keyed',
  run,
  recover,
};
