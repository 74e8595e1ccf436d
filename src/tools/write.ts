/** The write tool: a file gets this content, whatever was there. `keyed` by the call id (L6). */
import { z } from 'zod';
import type { CallStatus, EditsDone } from '../sandbox/executor.ts';
import type { PlannedEdits } from './edits-call.ts';
import { applyPlanned, recoverEdits } from './edits-call.ts';
import { failed, interruptedText, succeeded } from './outcome.ts';
import { pathInput, resolvePath } from './path.ts';
import type { Tool, ToolContext, ToolOutcome } from './tool.ts';

const inputSchema = z.strictObject({
  file_path: pathInput('The file to write, absolute or relative to the working directory.'),
  content: z.string().describe('The whole new content of the file.'),
});

type WriteInput = z.infer<typeof inputSchema>;

function plan(input: WriteInput, context: ToolContext): PlannedEdits {
  const edits = [{ path: resolvePath(context.cwd, input.file_path), content: Buffer.from(input.content) }];
  return { ok: true, edits, describe: (done) => describe(input, done) };
}

function describe(input: WriteInput, done: EditsDone): ToolOutcome {
  const bytes = Buffer.byteLength(input.content);
  const verb = done.files[0]?.existed ? 'Overwrote' : 'Created';
  return succeeded(`${verb} ${input.file_path} (${bytes} ${bytes === 1 ? 'byte' : 'bytes'}).`, {
    files: done.files.map((file) => file.path),
  });
}

async function run(input: WriteInput, context: ToolContext): Promise<ToolOutcome> {
  if (context.signal.aborted) return failed(interruptedText);
  return applyPlanned(context, plan(input, context));
}

async function recover(input: WriteInput, context: ToolContext, status: CallStatus): Promise<ToolOutcome> {
  return recoverEdits(
    context,
    status,
    (done) => describe(input, done),
    async () => plan(input, context),
  );
}

export const write: Tool<WriteInput> = {
  name: 'write',
  description: 'Write a text file: create it, with its directories, or replace its whole content.',
  input: inputSchema,
  effect: 'keyed',
  run,
  recover,
};
