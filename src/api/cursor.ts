/**
 * Page cursors: opaque to clients, bound to their list and its order (§1.7). A cursor is a position and no permission:
 * what it points at is looked up within the caller's own tenant and session again.
 */
import { z } from 'zod';
import type { Problem } from '../protocol/errors.ts';
import { problem } from '../protocol/errors.ts';

export type Order = 'asc' | 'desc';

const rowPosition = z.strictObject({
  list: z.string(),
  order: z.enum(['asc', 'desc']),
  /** `back`: read against the order, towards the first page. */
  way: z.enum(['on', 'back']),
  createdAt: z.string().max(40),
  id: z.string().max(80),
  version: z.int().min(0).optional(),
});

const seqPosition = z.strictObject({
  list: z.string(),
  order: z.enum(['asc', 'desc']),
  /** Last sequence read; the next one is after it, or before it where the order is `desc`. */
  seq: z.int().min(0),
});

export type RowPosition = z.infer<typeof rowPosition>;
export type SeqPosition = z.infer<typeof seqPosition>;

export function cursorOf(position: RowPosition | SeqPosition): string {
  return Buffer.from(JSON.stringify(position)).toString('base64url');
}

type Wanted = { list: string; order?: Order | undefined };

/** The position a `page` parameter stands for; null on a first page. */
export function rowPositionOf(page: string | undefined, wanted: Wanted): RowPosition | Problem | null {
  return positionOf(page, wanted, rowPosition);
}

export function seqPositionOf(page: string | undefined, wanted: Wanted): SeqPosition | Problem | null {
  return positionOf(page, wanted, seqPosition);
}

function positionOf<T extends { list: string; order: Order }>(
  page: string | undefined,
  wanted: Wanted,
  schema: z.ZodType<T>,
): T | Problem | null {
  if (page === undefined) return null;
  let decoded: unknown;
  try {
    decoded = JSON.parse(Buffer.from(page, 'base64url').toString('utf8'));
  } catch {
    decoded = undefined;
  }
  const parsed = schema.safeParse(decoded);
  if (!parsed.success || parsed.data.list !== wanted.list) {
    return problem('invalid_request', 'query page: is not a cursor of this list');
  }
  if (wanted.order !== undefined && wanted.order !== parsed.data.order) {
    return problem(
      'invalid_request',
      `query page: was made with order ${parsed.data.order}; keep the order while paging`,
    );
  }
  return parsed.data;
}
