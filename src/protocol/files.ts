/** Files (managed-agents-protocol.md §6.1), as they are shown. */
import { z } from 'zod';
import { timestamp } from './fields.ts';

export const fileExpirySeconds = { min: 3600, max: 7_776_000 } as const;

export const file = z.looseObject({
  type: z.literal('file'),
  id: z.string(),
  filename: z.string(),
  mime_type: z.string(),
  size_bytes: z.int(),
  created_at: timestamp,
  downloadable: z.boolean(),
  expires_at: timestamp.nullable(),
  scope: z.looseObject({ type: z.literal('session'), id: z.string() }).nullable(),
});

export type File = z.infer<typeof file>;
