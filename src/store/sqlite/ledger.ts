/** Reservations and the outbox, as read back. They are written by `append`. */

import type { TextOutboxMessage } from '../as-text.ts';
import type { Reservation, Tenant } from '../store.ts';
import type { Database } from './database.ts';

export function reservation(
  { statements }: Database,
  { tenant, id }: { tenant: Tenant; id: string },
): Reservation | null {
  const { organization, project } = tenant;
  return (statements.reservation.get({ organization, project, id }) as Reservation | undefined) ?? null;
}

export function pendingOutbox({ statements }: Database, { limit }: { limit: number }): TextOutboxMessage[] {
  return statements.pendingOutbox.all({ limit }) as TextOutboxMessage[];
}

export function ackOutbox({ statements }: Database, { ids }: { ids: string[] }): null {
  statements.ackOutbox.run({ ids: JSON.stringify(ids) });
  return null;
}
