/** What an operator or an engine declares once and for all about a machine: a row, and the organisation's event, together. */
import { newId } from '../protocol/ids.ts';
import { defaultTenant } from '../protocol/tenant.ts';
import type { Append, Store } from '../store/store.ts';

export type Declaration = {
  kind: string;
  id: string;
  eventType: string;
  /** What the event says besides the reason. */
  about: Record<string, string>;
  by: string;
  reason: string;
  nowMs: number;
};

/** Idempotent; the first reason stands. Rejects where it could not be recorded. */
export async function declareOnce(store: Store, declaration: Declaration): Promise<void> {
  const { kind, id, eventType, about, by, reason, nowMs } = declaration;
  const time = new Date(nowMs).toISOString();
  const append: Append = {
    ...defaultTenant,
    stream: defaultTenant.organization,
    events: [
      {
        ...{ id: newId('event', nowMs), type: eventType, actor: by, audience: 'operator' },
        ...{ thread: null, turn: null, call: null, causation: null },
        public: { ...about, reason },
        private: null,
      },
    ],
    resources: [
      {
        ...{ kind, id, version: 1, body: { by, reason }, createdAt: time, updatedAt: time },
        ...{ archivedAt: null, uniqueName: null },
      },
    ],
  };
  const result = await store.append(append);
  const isKnown = result.status === 'conflict' && result.reason === 'version';
  if (result.status !== 'ok' && !isKnown)
    throw new Error(`${eventType} of ${id} was not recorded: ${result.status}`);
}
