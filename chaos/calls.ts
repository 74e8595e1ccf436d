/** The tool calls of one log, each with what came of it. Pure. */
import type { LogEvent } from './evidence.ts';
import { nonceOf } from './evidence.ts';

export type Result = { seq: number; atMs: number; isError: boolean; inDoubt: boolean };

export type Call = {
  id: string;
  name: string;
  isCustom: boolean;
  /** What the witness counts; null where the call has no effect that it sees. */
  nonce: string | null;
  atMs: number;
  intentSeq: number | null;
  /** The guard or a person said no: it then has a result without ever having run. */
  wasRefused: boolean;
  /** A person interrupted the turn while it was open: it may end without having run, or in the middle. */
  wasInterrupted: boolean;
  results: Result[];
};

export function callsOf(log: readonly LogEvent[]): Call[] {
  const calls = new Map<string, Call>();
  const interrupts = new Set<string>();
  for (const event of log) {
    if (event.type === 'user.interrupt') interrupts.add(event.id);
    if (event.type === 'input.processed')
      for (const id of event.public.event_ids as string[]) interrupts.delete(id);
    take(event, calls, interrupts.size > 0);
  }
  return [...calls.values()];
}

function take(event: LogEvent, calls: Map<string, Call>, isInterrupted: boolean): void {
  const { type, public: payload } = event;
  switch (type) {
    case 'agent.tool_use':
    case 'agent.custom_tool_use':
      calls.set(event.id, {
        id: event.id,
        name: String(payload.name),
        isCustom: type === 'agent.custom_tool_use',
        nonce: nonceOf((payload.input as { command?: unknown }).command),
        atMs: Date.parse(event.time),
        intentSeq: null,
        wasRefused: payload.evaluated_permission === 'deny',
        // An interrupt may have come before what it interrupts was published.
        wasInterrupted: isInterrupted,
        results: [],
      });
      return;
    case 'user.interrupt':
      for (const call of calls.values()) if (call.results.length === 0) call.wasInterrupted = true;
      return;
    case 'user.tool_confirmation': {
      const call = calls.get(String(payload.tool_use_id));
      if (call && payload.result === 'deny') call.wasRefused = true;
      return;
    }
    case 'intent': {
      const call = calls.get(String(payload.tool_use_id));
      if (call) call.intentSeq ??= event.seq;
      return;
    }
    case 'agent.tool_result':
      calls.get(String(payload.tool_use_id))?.results.push(resultOf(event));
      return;
    case 'user.custom_tool_result':
      calls.get(String(payload.custom_tool_use_id))?.results.push(resultOf(event));
  }
}

function resultOf(event: LogEvent): Result {
  return {
    seq: event.seq,
    atMs: Date.parse(event.time),
    isError: event.public.is_error === true,
    inDoubt: event.public.in_doubt === true,
  };
}
