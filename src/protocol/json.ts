/** Plain JSON, as it is stored in the log and sent on the wire. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** A JSON object; `undefined` members are never stored. */
export type JsonObject = { [key: string]: Json };

/**
 * The one byte form of a JSON value: keys sorted by code unit, no white space (RFC 8785 for the values we store,
 * which hold no numbers outside the safe range). Hashes are taken over this form only.
 */
export function canonicalJson(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const members = Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonicalJson(value[key] as Json)}`);
  return `{${members.join(',')}}`;
}
