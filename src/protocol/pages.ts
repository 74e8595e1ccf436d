/** Pages of lists (managed-agents-protocol.md §1.7) and the query parameters all lists share. */
import { z } from 'zod';

export const order = z.enum(['asc', 'desc']);
export const page = z.string().min(1).max(2048);

// Query values are text. `described` is what a parameter is to a client, for the document that describes the API.

/** A whole number within bounds. */
export function wholeNumber(min: number, max: number) {
  return z
    .string()
    .regex(/^\d{1,9}$/, 'must be a whole number')
    .transform(Number)
    .pipe(z.int().min(min).max(max))
    .meta({ described: { type: 'integer', minimum: min, maximum: max } });
}

export const truth = z
  .enum(['true', 'false'])
  .transform((text) => text === 'true')
  .meta({ described: { type: 'boolean' } });

/** A bound of a range filter: RFC 3339, any offset, kept in UTC with milliseconds so that text order is time order. */
export const instant = z
  .string()
  .refine(
    (text) => z.iso.datetime({ offset: true }).safeParse(text).success && !Number.isNaN(Date.parse(text)),
    {
      error: 'must be an RFC 3339 timestamp',
    },
  )
  .transform((text) => new Date(text).toISOString())
  .meta({ described: { type: 'string', format: 'date-time' } });

export function pageOf<T extends z.ZodType>(item: T) {
  return z.looseObject({ data: z.array(item), next_page: z.string().nullable() });
}

export function bidirectionalPageOf<T extends z.ZodType>(item: T) {
  return z.looseObject({
    data: z.array(item),
    next_page: z.string().nullable(),
    prev_page: z.string().nullable(),
  });
}

export function deletedOf<T extends string>(type: T) {
  return z.looseObject({ id: z.string(), type: z.literal(type) });
}
