/**
 * Takes keys out of what a provider says (S1): the key in use wherever it stands, and whatever looks like a bearer
 * credential. A peer may quote our own header back at us, in an error or in an item.
 */
import type { Json, JsonObject } from '../protocol/json.ts';

export const redacted = '[redacted]';

/** Shorter keys are placeholders of local servers ("x", "none"); replacing them would destroy ordinary text. */
const shortestRealKey = 8;

const lookalike = /\b(?:sk|sess|rk)-[A-Za-z0-9_*-]{8,}|\bBearer\s+[A-Za-z0-9._~+/=*-]{8,}/g;

export function scrubText(text: string, apiKey: string): string {
  return withoutKey(text, apiKey).replaceAll(lookalike, redacted);
}

function withoutKey(text: string, apiKey: string): string {
  return apiKey.length >= shortestRealKey ? text.replaceAll(apiKey, redacted) : text;
}

/** Only the key in use: an item goes back verbatim, and a model may well write about keys in general. */
export function scrubItems(items: Json[], apiKey: string): Json[] {
  if (apiKey.length < shortestRealKey || !JSON.stringify(items).includes(apiKey)) return items;
  return items.map((item) => scrubJson(item, apiKey));
}

export function scrubPreview(text: string, apiKey: string): string {
  return withoutKey(text, apiKey);
}

function scrubJson(value: Json, apiKey: string): Json {
  if (typeof value === 'string') return withoutKey(value, apiKey);
  if (Array.isArray(value)) return value.map((member) => scrubJson(member, apiKey));
  if (value === null || typeof value !== 'object') return value;
  const entries = Object.entries(value).map(([name, member]) => [
    withoutKey(name, apiKey),
    scrubJson(member, apiKey),
  ]);
  const scrubbed: JsonObject = Object.fromEntries(entries);
  return scrubbed;
}
