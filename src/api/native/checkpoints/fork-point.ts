/**
 * Where a fork begins: a checkpoint by its id, or by the event that it belongs to. The end of a turn from before there was
 * a workspace needs none. For other events the nearest are named.
 */
import type { z } from 'zod';
import type { forkParams } from '../../../protocol/checkpoints.ts';
import { type Problem, problem } from '../../../protocol/errors.ts';
import type { KeptCheckpoint, SessionState } from '../../../session/state.ts';
import type { Store, StoredEvent } from '../../../store/store.ts';

export type ForkPoint = { id: string | null; eventId: string; seq: number };

type Wanted = Pick<z.infer<typeof forkParams>, 'checkpoint_id' | 'event_id'>;

export async function forkPoint(
  store: Store,
  session: string,
  state: SessionState,
  { checkpoint_id, event_id }: Wanted,
): Promise<ForkPoint | Problem> {
  const { kept, making, requests } = state.checkpoints;
  if (checkpoint_id != null) {
    const known = kept.find(({ id }) => id === checkpoint_id);
    if (known) return known;
    return making?.id === checkpoint_id || requests.includes(checkpoint_id)
      ? problem(
          'conflict',
          `checkpoint_id: ${checkpoint_id} is not ready yet. Try again when its status is ready.`,
        )
      : problem('not_found', `checkpoint_id: this session has no checkpoint ${checkpoint_id}.`);
  }
  const wanted = event_id ?? '';
  // The newest of several at one event: they are the same but for what runs in the background.
  const known = kept.findLast(({ eventId }) => eventId === wanted);
  if (known) return known;
  const event = await store.readById(session, wanted);
  if (!event) return problem('not_found', `event_id: this session has no event ${wanted}.`);
  if (making?.eventId === wanted)
    return problem(
      'conflict',
      'event_id: the checkpoint of this event is being made. Try again in a moment.',
    );
  if (isEndOfTurn(event) && !(await hadWorkspace(store, session, event.seq)))
    return { id: null, eventId: wanted, seq: event.seq };
  return problem('invalid_request', `event_id: ${wanted} has no checkpoint. ${nearest(kept, event.seq)}`);
}

function isEndOfTurn({ type, public: said }: StoredEvent): boolean {
  const reason = said.stop_reason as { type?: string } | undefined;
  return type === 'session.status_idle' && reason?.type !== 'requires_action';
}

const readBatch = 1_000;

async function hadWorkspace(store: Store, session: string, upTo: number): Promise<boolean> {
  for (let at = 0; at < upTo; ) {
    const events = await store.read(session, at, Math.min(readBatch, upTo - at));
    if (events.some(({ type }) => type === 'sandbox.started')) return true;
    at = events.at(-1)?.seq ?? upTo;
  }
  return false;
}

function nearest(kept: readonly KeptCheckpoint[], seq: number): string {
  const named = (one: KeptCheckpoint | undefined, where: string): string[] =>
    one ? [`the nearest ${where} is ${one.id} at ${one.eventId}`] : [];
  const found = [
    ...named(
      kept.findLast((one) => one.seq < seq),
      'before it',
    ),
    ...named(
      kept.find((one) => one.seq > seq),
      'after it',
    ),
  ];
  if (found.length > 0) return `${found.join(', ').replace(/^t/, 'T')}.`;
  return 'The session has none at all: ask for one with POST /v1/sessions/{session_id}/checkpoints.';
}
