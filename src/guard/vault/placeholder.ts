/**
 * What a sandbox sees instead of a secret: shaped like it, so that tools that look at it are content, and worth nothing.
 *
 * - S1: of the secret it keeps the length, which kinds of characters it has, its separators and a published prefix
 *   (`ghp_`, `AKIA`); everything else is drawn from a keyed hash of session and credential.
 * - The shape is taken once, when the credential is made, and kept sealed with it. So the placeholder of a session is
 *   the same for ever, also after the secret was replaced by a longer one: running processes have it already (L7).
 * - A secret too short to be told from ordinary text gets an opaque placeholder of another length.
 */

/** Of a secret: what may be known of it in a sandbox. Stored as text in a sealed field. */
export type Shape = {
  prefix: string;
  /** What the random characters are drawn from. */
  alphabet: string;
  /** After the prefix: `*` is a random character, everything else stands. */
  pattern: string;
};

const digits = '0123456789';
const lower = 'abcdefghijklmnopqrstuvwxyz';
const upper = lower.toUpperCase();

/** Published beginnings of tokens; longer ones first. */
const knownPrefix =
  /^(?:github_pat_|gh[opsur]_|glpat-|sk-ant-[a-z]+\d\d-|sk-proj-|sk-svcacct-|sk-|[spr]k_(?:live|test)_|xox[abeprs]-|xapp-|AKIA|ASIA|AIza|ya29\.|hf_|npm_|pypi-|dckr_pat_|dop_v1_|shpat_|lin_api_|tskey-|SG\.|eyJ)/;

/** Fewer could be met by chance in what a sandbox sends. */
const leastBits = 64;
const opaque: Shape = { prefix: '', alphabet: digits + upper + lower, pattern: '*'.repeat(32) };

export function shapeOf(secret: string): Shape {
  const prefix = knownPrefix.exec(secret)?.[0] ?? '';
  const rest = secret.slice(prefix.length);
  const alphabet = alphabetOf(rest);
  const pattern = rest.replace(/[^-_.:/+=~]/g, '*');
  const bits = pattern.split('*').length - 1;
  const isGuessable = alphabet === '' || bits * Math.log2(alphabet.length) < leastBits;
  return isGuessable ? opaque : { prefix, alphabet, pattern };
}

function alphabetOf(text: string): string {
  const letters = text.replace(/[^0-9A-Za-z]/g, '');
  if (/^[0-9a-f]*\d[0-9a-f]*$/.test(letters)) return `${digits}abcdef`;
  if (/^[0-9A-F]*\d[0-9A-F]*$/.test(letters)) return `${digits}ABCDEF`;
  return (
    (/\d/.test(letters) ? digits : '') +
    (/[A-Z]/.test(letters) ? upper : '') +
    (/[a-z]/.test(letters) ? lower : '')
  );
}

/** `random(n)` gives 32 bytes, the same for the same n. */
export function placeholderOf(
  { prefix, alphabet, pattern }: Shape,
  random: (block: number) => Buffer,
): string {
  let drawn = 0;
  let block = random(0);
  const text = pattern.replaceAll('*', () => {
    const at = (drawn % 8) * 4;
    if (at === 0) block = random(Math.floor(drawn / 8));
    drawn++;
    return alphabet[block.readUInt32BE(at) % alphabet.length] as string;
  });
  return prefix + text;
}
