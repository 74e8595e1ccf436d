/** Fields that many resources share (managed-agents-protocol.md §1.11), as zod schemas. */
import { z } from 'zod';

export const maxMetadataPairs = 16;

const metadataKey = z.string().min(1).max(64);
const metadataValue = z.string().max(512);

export const metadataParam = z
  .record(metadataKey, metadataValue)
  .refine((pairs) => Object.keys(pairs).length <= maxMetadataPairs, `at most ${maxMetadataPairs} pairs`);

/** A patch: a string upserts, `null` deletes, an omitted key stays. */
export const metadataPatch = z.record(metadataKey, metadataValue.nullable());

export const metadata = z.record(z.string(), z.string());

export const timestamp = z.iso
  .datetime({ offset: true })
  .meta({ described: { type: 'string', format: 'date-time' } });

/** Merges a patch into a stored bag. The caller checks the size of the result. */
export function patchMetadata(
  before: Record<string, string>,
  patch: Record<string, string | null>,
): Record<string, string> {
  const after = new Map(Object.entries(before));
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) after.delete(key);
    else after.set(key, value);
  }
  return Object.fromEntries(after);
}

/** A refusal of something the protocol has and this version has not (S4: said, never pretended). */
export function unavailable(what: string, instead: string): string {
  return `${what} not available in this version of Scriptorium: ${instead}`;
}
