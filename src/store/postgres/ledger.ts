/** Reservations and the outbox, as read back. They are written by `append`. */
import type { TextOutboxMessage } from '../as-text.ts';
import { withBody } from '../as-text.ts';
import type { OutboxMessage, Reservation, Tenant } from '../store.ts';
import { texts } from './connection/values.ts';
import type { Database } from './database.ts';
import { run } from './statements.ts';

export async function reservation(
  { pool }: Database,
  { organization, project }: Tenant,
  id: string,
): Promise<Reservation | null> {
  const values = [organization, project, id];
  const [row] = await pool.use((connection) => run<Reservation>(connection, 'reservation', values));
  return row ?? null;
}

export async function pendingOutbox({ pool }: Database, limit: number): Promise<OutboxMessage[]> {
  const rows = await pool.use((connection) => run<TextOutboxMessage>(connection, 'pendingOutbox', [limit]));
  return rows.map(withBody);
}

export async function ackOutbox({ pool }: Database, ids: string[]): Promise<void> {
  await pool.use((connection) => run(connection, 'ackOutbox', [texts(ids)]));
}
