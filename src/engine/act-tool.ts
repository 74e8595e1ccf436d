/**
 * Running a tool call: from a durable intent to its one result (L4), also when another engine began it (L6).
 *
 * A call that the journal does not know was never dispatched and runs for the first time. One that it knows is taken up
 * where it is. Only what nobody can know is said to be in doubt.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { JsonObject } from '../protocol/json.ts';
import { HostUnreachable, isRefusal } from '../sandbox/executor.ts';
import type { Draft } from '../session/events.ts';
import type { Call, SessionState } from '../session/state.ts';
import type { Tool, ToolContext, ToolOutcome } from '../tools/tool.ts';
import { parseInput } from '../tools/toolset.ts';
import type { Mint } from './draft.ts';
import { draft } from './draft.ts';
import { interruptedText } from './realize.ts';

export type ToolAct = {
  call: Call;
  tool: Tool | null;
  context: ToolContext;
  /** Brings the sandbox up and lays out the repository; what it cannot do comes back as a message for the model. */
  ready: () => Promise<{ ok: true } | { ok: false; message: string }>;
  /** True where the intent is of an earlier claim: somebody may have begun. */
  isTakenOver: boolean;
  nowMs(): number;
};

/** How long a lost host may take to come back before its calls are given up. */
const hostPatienceMs = 30_000;
const hostRetryMs = 250;

export async function runTool(act: ToolAct, state: SessionState, mint: Mint): Promise<Draft[]> {
  const startedMs = act.nowMs();
  const outcome = await outcomeOf(act);
  return [resultDraft(act.call, outcome, act.nowMs() - startedMs, state, mint)];
}

async function outcomeOf(act: ToolAct): Promise<ToolOutcome> {
  if (!act.tool) return failure(`There is no tool named ${act.call.name} in this session.`);
  const parsed = parseInput(act.tool, act.call.input);
  if (!parsed.ok) return failure(parsed.message);
  const deadlineMs = act.nowMs() + hostPatienceMs;
  for (let isTakenOver = act.isTakenOver; ; isTakenOver = true) {
    try {
      if (act.context.signal.aborted && !isTakenOver) return failure(interruptedText);
      const ready = await act.ready();
      if (!ready.ok) return failure(ready.message);
      return isTakenOver
        ? await takeUp(act, act.tool, parsed.input)
        : await act.tool.run(parsed.input, act.context);
    } catch (error) {
      if (!(error instanceof HostUnreachable)) throw error;
      if (act.nowMs() > deadlineMs) return hostGone(act, error);
      await sleep(hostRetryMs);
    }
  }
}

async function takeUp(act: ToolAct, tool: Tool, input: unknown): Promise<ToolOutcome> {
  if (tool.effect === 'pure') return tool.run(input, act.context);
  const { session, fence, callId, executor } = act.context;
  const status = await executor.callStatus({ session, fence, callId });
  if (isRefusal(status)) return failure(`The call's journal cannot be read: ${status.message}`);
  if (status.kind === 'unknown') {
    return act.context.signal.aborted ? failure(interruptedText) : tool.run(input, act.context);
  }
  if (tool.recover) return tool.recover(input, act.context, status);
  return inDoubt(act.call, 'it was started, and its end was not seen');
}

function hostGone(act: ToolAct, error: HostUnreachable): ToolOutcome {
  if (act.tool?.effect === 'pure') return failure(`The sandbox host cannot be reached: ${error.message}`);
  return inDoubt(act.call, 'the sandbox host cannot be reached');
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

/** Ends what an earlier engine began and a person has interrupted. */
export async function terminateOrphan(act: ToolAct, state: SessionState, mint: Mint): Promise<Draft[]> {
  const { session, fence, callId, executor } = act.context;
  let text = interruptedText;
  try {
    const ended = await executor.terminateProcess({ session, fence, callId });
    if (isRefusal(ended) && ended.refused !== 'not_found' && ended.refused !== 'no_sandbox')
      text += ` (${ended.message})`;
  } catch (error) {
    if (!(error instanceof HostUnreachable)) throw error;
    text += ' The sandbox host could not be reached; it may still be running.';
  }
  return [resultDraft(act.call, failure(text), 0, state, mint)];
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
