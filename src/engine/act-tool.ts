/**
 * Running a tool call: from a durable intent to its one result (L4), also when another engine began it (L6).
 *
 * A call that the journal does not know was never dispatched and runs for the first time. One that it knows is taken up
 * where it is. Only what nobody can know is said to be in doubt.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { failpoints, sabotaged } from '../protocol/failpoint.ts';
import type { JsonObject } from '../protocol/json.ts';
import { HostAway, HostUnreachable, isRefusal } from '../sandbox/executor.ts';
import type { Draft } from '../session/events.ts';
import type { Call, SessionState } from '../session/state.ts';
import type { Tool, ToolContext, ToolOutcome } from '../tools/tool.ts';
import { parseInput } from '../tools/toolset.ts';
import type { Mint } from './draft.ts';
import { draft } from './draft.ts';
import type { Ready } from './hands.ts';
import { limitDrafts } from './limits.ts';
import { interruptedText } from './realize.ts';

export type ToolAct = {
  call: Call;
  tool: Tool | null;
  context: ToolContext;
  /** Brings the sandbox up and lays out the repository; what it cannot do comes back as a message for the model. */
  ready: () => Promise<Ready>;
  /** True where the intent is of an earlier claim: somebody may have begun. */
  isTakenOver: boolean;
  /** True once its engine has let go: the outcome is the next owner's to find. */
  isAbandoned(): boolean;
  nowMs(): number;
};

/** How long a lost host may take to come back before its calls are given up. */
const hostPatienceMs = 30_000;
const hostRetryMs = 250;

export async function runTool(act: ToolAct, state: SessionState, mint: Mint): Promise<Draft[]> {
  const startedMs = act.nowMs();
  const outcome = await outcomeOf(act);
  return drafts(act.call, outcome, act.nowMs() - startedMs, state, mint);
}

async function outcomeOf(act: ToolAct): Promise<ToolOutcome> {
  if (!act.tool) return failure(`There is no tool named ${act.call.name} in this session.`);
  const parsed = parseInput(act.tool, act.call.input);
  if (!parsed.ok) return failure(parsed.message);
  const deadlineMs = act.nowMs() + hostPatienceMs;
  for (let mayHaveBegun = act.isTakenOver; ; ) {
    try {
      const isInterrupted = act.context.signal.aborted && !mayHaveBegun;
      // After an abandonment nobody hears the answer; there must only be no more asking.
      if (isInterrupted || act.isAbandoned()) return failure(interruptedText);
      const ready = await readyUnlessInterrupted(act);
      if (mayHaveBegun) return await takeUp(act, act.tool, parsed.input, ready);
      if (!ready.ok) return failure(ready.message);
      mayHaveBegun = true;
      return await act.tool.run(parsed.input, act.context);
    } catch (error) {
      if (!(error instanceof HostUnreachable)) throw error;
      // A host of a fleet may come back in an hour, and its calls with it: the session waits in the store, not here.
      if (error instanceof HostAway && (error.awayMs > hostPatienceMs || act.nowMs() > deadlineMs))
        throw error;
      if (act.nowMs() > deadlineMs) {
        return mayHaveBegun && act.tool.effect !== 'pure'
          ? inDoubt(act.call, 'the sandbox host cannot be reached')
          : failure(`The sandbox host cannot be reached: ${error.message}`);
      }
      await sleep(hostRetryMs);
    }
  }
}

/** An interrupt waits for no sandbox and no checkout; what gets them ready goes on, for the calls to come. */
async function readyUnlessInterrupted(act: ToolAct): Promise<Ready> {
  const { signal } = act.context;
  const interrupted: Ready = { ok: false, message: interruptedText };
  if (signal.aborted) return interrupted;
  const abort = Promise.withResolvers<Ready>();
  const onAbort = (): void => abort.resolve(interrupted);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([act.ready(), abort.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** The journal decides, also where the sandbox cannot be had: what began is never said to have failed (L6). */
async function takeUp(act: ToolAct, tool: Tool, input: unknown, ready: Ready): Promise<ToolOutcome> {
  const { session, fence, callId, executor, signal } = act.context;
  if (failpoints.on && sabotaged('sabotage.rerun-taken-over'))
    return tool.run(input, { ...act.context, callId: `${callId}-again` });
  // The journal went with the machine: what the next one says of this call means nothing.
  if (!ready.ok && ready.isWorkspaceLost && tool.effect !== 'pure') return inDoubt(act.call, ready.message);
  if (tool.effect === 'pure') return ready.ok ? tool.run(input, act.context) : failure(ready.message);
  const status = await executor.callStatus({ session, fence, callId });
  if (isRefusal(status)) return inDoubt(act.call, `its journal cannot be read (${status.message})`);
  if (status.kind === 'unknown') {
    if (!ready.ok) return failure(ready.message);
    return signal.aborted ? failure(interruptedText) : tool.run(input, act.context);
  }
  if (tool.recover) return tool.recover(input, act.context, status);
  return inDoubt(act.call, 'it was started, and its end was not seen');
}

/** L6: said plainly to the model, the API and the person. */
function inDoubt(call: Call, why: string): ToolOutcome {
  const text =
    `It is not known whether this ${call.name} call took effect: ${why}. ` +
    'It was not run a second time. Check what it would have changed before you repeat it.';
  return { content: [{ type: 'text', text }], isError: true, inDoubt: true };
}

function failure(text: string): ToolOutcome {
  return { content: [{ type: 'text', text }], isError: true };
}

/** Ends what an earlier engine began and a person has interrupted; what had ended before keeps its result (L6). */
export async function terminateOrphan(act: ToolAct, state: SessionState, mint: Mint): Promise<Draft[]> {
  return drafts(act.call, await endOrphan(act), 0, state, mint);
}

async function endOrphan(act: ToolAct): Promise<ToolOutcome> {
  const { call, tool, context } = act;
  try {
    const parsed = tool && parseInput(tool, call.input);
    // The context is aborted: to take the call up is to end it.
    if (tool && parsed?.ok)
      return await takeUp(act, tool, parsed.input, { ok: false, message: interruptedText });
    const { session, fence, callId, executor } = context;
    await executor.terminateProcess({ session, fence, callId });
    return inDoubt(call, 'it was interrupted, and this version of the engine cannot look after it');
  } catch (error) {
    if (!(error instanceof HostUnreachable)) throw error;
    return inDoubt(call, 'it was interrupted while the sandbox host could not be reached');
  }
}

/** In one append: what ran into a limit is told once, as the result is (L4). */
function drafts(
  call: Call,
  outcome: ToolOutcome,
  durationMs: number,
  state: SessionState,
  mint: Mint,
): Draft[] {
  const reached = limitDrafts(outcome.limits ?? [], call.id, state, mint);
  return [...reached, resultDraft(call, outcome, durationMs, state, mint)];
}

function resultDraft(
  call: Call,
  outcome: ToolOutcome,
  durationMs: number,
  state: SessionState,
  mint: Mint,
): Draft {
  const detail: { in_doubt?: boolean; details?: JsonObject } = {};
  if (outcome.inDoubt) detail.in_doubt = true;
  if (outcome.details) detail.details = outcome.details;
  return draft(
    mint,
    state,
    'agent.tool_result',
    {
      tool_use_id: call.id,
      content: outcome.content,
      is_error: outcome.isError,
      duration_ms: Math.round(durationMs),
      ...detail,
    },
    { call: call.id, causation: call.id, private: outcome.cwd === undefined ? {} : { cwd: outcome.cwd } },
  );
}
