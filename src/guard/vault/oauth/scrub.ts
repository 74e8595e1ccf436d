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
    Buffer.from(secret).toString('hex'),
    ...base64Forms(secret),
  ]);
  // Longer ones first: a form that holds another one is taken out whole.
  const longest = [...new Set(forms)].filter((form) => form !== '').sort((a, b) => b.length - a.length);
  let clean = text;
  for (const form of longest) clean = clean.replaceAll(form, redacted);
  return clean;
}

const shortestForm = 6;

/** Also within a longer text (`Basic` of user and password): what is the same of it at each of the three alignments. */
function base64Forms(secret: string): string[] {
  const inner = [0, 1, 2].map((skip) => {
    const text = Buffer.from('x'.repeat(skip) + secret).toString('base64');
    return text.slice(skip === 0 ? 0 : 4, Math.floor((skip + Buffer.byteLength(secret)) / 3) * 4);
  });
  const whole = Buffer.from(secret).toString('base64');
  const forms = [whole, whole.replace(/=+$/, ''), ...inner];
  const both = forms.flatMap((form) => [form, form.replaceAll('+', '-').replaceAll('/', '_')]);
  return both.filter((form) => form.length >= shortestForm);
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
