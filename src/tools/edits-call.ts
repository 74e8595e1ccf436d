/**
 * One journalled set of file changes, and what is left of it after a takeover.
 *
 * Promises kept here
 * - L6: `keyed`. The call id is the key: asking again with the same changes does them at most once, and a set that a
 *   dying host left half made is completed by asking again.
 * - Where the same changes cannot be worked out any more, the outcome is in doubt, not a failure.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { CallStatus, Edit, EditsDone, Refusal } from '../sandbox/executor.ts';
import { isRefusal } from '../sandbox/executor.ts';
import { inDoubt, refusalText, refused } from './outcome.ts';
import type { ToolContext, ToolOutcome } from './tool.ts';

const statusAttempts = 20;
const statusPauseMs = 100;

/** What a tool wants changed, worked out from what is there now, or why it cannot be. */
export type PlannedEdits =
  | { ok: true; edits: Edit[]; describe: (done: EditsDone) => ToolOutcome }
  | NotPlanned;
export type NotPlanned = { ok: false; outcome: ToolOutcome };

export async function applyPlanned(context: ToolContext, planned: PlannedEdits): Promise<ToolOutcome> {
  if (!planned.ok) return planned.outcome;
  const done = await apply(context, planned.edits);
  return isRefusal(done) ? refusedEdits(done, planned.edits) : planned.describe(done);
}

/**
 * The outcome of a call that an earlier engine may have made. `describeDone` tells it from the journal alone; `plan`
 * works the changes out again, and only succeeds where they were not made yet.
 */
export async function recoverEdits(
  context: ToolContext,
  status: CallStatus,
  describeDone: (done: EditsDone) => ToolOutcome,
  plan: () => Promise<PlannedEdits>,
): Promise<ToolOutcome> {
  if (status.kind === 'process')
    return inDoubt('The journal knows this call as a command, not as a file change.');
  if (status.kind === 'unknown') return applyPlanned(context, await plan());
  if (status.state === 'done') {
    return isRefusal(status.outcome) ? refusedEdits(status.outcome, []) : describeDone(status.outcome);
  }
  // Reading the files brings the sandbox up, and with it the host finishes what it had begun.
  const planned = await plan();
  const now = await settled(context);
  if (isRefusal(now)) return refused(now);
  if (now.kind === 'edits' && now.state === 'done') return recoverEdits(context, now, describeDone, plan);
  if (!planned.ok) return unknowable(status, planned.outcome);
  const done = await apply(context, planned.edits);
  if (!isRefusal(done)) return describeDone(done);
  return done.refused === 'call_mismatch' ? unknowable(status) : refusedEdits(done, planned.edits);
}

/** What the journal says once nothing is being done any more, or after a while. */
async function settled(context: ToolContext): Promise<CallStatus | Refusal> {
  const { session, fence, callId, executor } = context;
  for (let attempt = 1; ; attempt++) {
    const status = await executor.callStatus({ session, fence, callId });
    const isRunning = !isRefusal(status) && status.kind === 'edits' && status.state === 'running';
    if (!isRunning || attempt === statusAttempts) return status;
    await delay(statusPauseMs);
  }
}

function apply(context: ToolContext, edits: Edit[]): Promise<EditsDone | Refusal> {
  const { session, fence, callId, executor } = context;
  return executor.applyEdits({ session, fence, callId, edits });
}

/** The port names the path in its message where there are several. */
function refusedEdits(refusal: Refusal, edits: Edit[]): ToolOutcome {
  const [first, ...others] = edits;
  if (first && others.length === 0) return refused(refusal, first.path);
  const outcome = refused(refusal, 'One of the files');
  const text = `${refusalText(refusal, 'One of the files')} (${refusal.message})`;
  return { ...outcome, content: [{ type: 'text', text }] };
}

function unknowable(status: CallStatus & { kind: 'edits' }, attempt?: ToolOutcome): ToolOutcome {
  const reason = status.state === 'lost' ? status.reason : 'the change was still being made';
  const found = attempt?.content.map((block) => (block.type === 'text' ? block.text : '')).join('\n') ?? '';
  const text = [
    `It is not known whether this change was made: it was begun, and its end was not seen (${reason}).`,
    'Read the file before you decide what is left to do.',
    ...(found === '' ? [] : [`Trying it on what is there now says: ${found}`]),
  ].join(' ');
  return inDoubt(text, { reason });
}
