/** Takes a credential's secrets out of what a peer says (S1), in the forms in which peers echo them. Pure. */
import type { HttpResponse } from '../../../protocol/vaults.ts';
import type { OutboundAnswer } from './outbound.ts';

const redacted = '[redacted]';
const shownLength = 4096;

/** Values of members that are called so are never shown, ours or not. */
const secretMember =
  /("[^"]*(?:token|secret|password|assertion|credential)[^"]*"\s*:\s*)"(?:[^"\\]|\\.)*("|$)/gi;

export function scrub(text: string, secrets: readonly string[]): string {
  const forms = secrets.flatMap((secret) => [
    secret,
    encodeURIComponent(secret),
    new URLSearchParams({ s: secret }).toString().slice(2),
    JSON.stringify(secret).slice(1, -1),
    Buffer.from(secret).toString('base64'),
    Buffer.from(secret).toString('base64').replace(/=+$/, ''),
    Buffer.from(secret).toString('base64url'),
    Buffer.from(secret).toString('hex'),
  ]);
  // Longer ones first: a form that holds another one is taken out whole.
  const longest = [...new Set(forms)].filter((form) => form !== '').sort((a, b) => b.length - a.length);
  let clean = text;
  for (const form of longest) clean = clean.replaceAll(form, redacted);
  return clean;
}

/** What an operator may see of an answer. Scrubbed before it is cut, so that no half of a secret is left at the end. */
export function shownResponse(
  answer: Extract<OutboundAnswer, { kind: 'response' }>,
  secrets: readonly string[],
): HttpResponse {
  const body = scrub(answer.body, secrets).replace(secretMember, `$1"${redacted}"`);
  return {
    status_code: answer.status,
    content_type: scrub(answer.contentType, secrets),
    body: body.slice(0, shownLength),
    body_truncated: answer.isTruncated || body.length > shownLength,
  };
}
