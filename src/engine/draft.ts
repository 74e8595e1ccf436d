/**
 * Minting of events: the one place where a decision becomes something with an id, an actor and a place in a turn.
 */
import { newId } from '../protocol/ids.ts';
import type { Audience, Draft, EventBodies, EventType } from '../session/events.ts';
import type { SessionState } from '../session/state.ts';

export type Mint = {
  worker: string;
  newEventId(): string;
};

export function minter(worker: string): Mint {
  return { worker, newEventId: () => newId('event') };
}

type Extra = {
  id?: string;
  call?: string;
  causation?: string;
  turn?: string;
  audience?: Audience;
  private?: unknown;
};

const internal = new Set<EventType>([
  'model.intent',
  'model.response',
  'model.failed',
  'intent',
  'input.processed',
  'timer.set',
  'timer.fired',
  'checkpoint.intent',
]);
const operator = new Set<EventType>([
  'turn.started',
  'turn.steered',
  'turn.ended',
  'sandbox.ready',
  'sandbox.failed',
  'checkpoint.created',
  'checkpoint.failed',
  'checkpoint.removed',
  'workspace.restored',
]);

/**
 * One event of the session that `state` is of. Agent events are attributed to the agent's version, all others to the
 * engine (G4). The type parameter ties the payloads to the type.
 */
export function draft<T extends EventType>(
  mint: Mint,
  state: SessionState,
  type: T,
  publicPayload: EventBodies[T]['P'],
  extra: Extra & (EventBodies[T]['X'] extends null ? object : { private: EventBodies[T]['X'] }),
): Draft {
  const agent = state.config?.agent;
  const isAgents = type.startsWith('agent.') && type !== 'agent.tool_result';
  return {
    id: extra.id ?? mint.newEventId(),
    type,
    actor: isAgents ? `agent:${String(agent?.id)}@${String(agent?.version)}` : `engine:${mint.worker}`,
    thread: state.config?.thread ?? null,
    turn: extra.turn ?? state.turn?.id ?? null,
    call: extra.call ?? null,
    causation: extra.causation ?? null,
    audience:
      extra.audience ?? (internal.has(type) ? 'internal' : operator.has(type) ? 'operator' : 'public'),
    public: publicPayload,
    private: extra.private ?? null,
  } as Draft;
}
