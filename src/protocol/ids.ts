import { randomFillSync } from 'node:crypto';

/** Prefixes of the native protocol (managed-agents-protocol.md §1.10) and, below the line, ours. */
export const idPrefixes = {
  agent: 'agent_',
  environment: 'env_',
  session: 'sesn_',
  event: 'sevt_',
  thread: 'sthr_',
  sessionResource: 'sesrsc_',
  file: 'file_',
  request: 'req_',
  apiKey: 'apikey_',
  vault: 'vlt_',
  vaultCredential: 'vcrd_',
  // ours
  turn: 'turn_',
  modelCall: 'mcall_',
  worker: 'wrkr_',
  timer: 'tmr_',
  checkpoint: 'ckpt_',
  organization: 'org_',
  project: 'proj_',
} as const;

export type IdKind = keyof typeof idPrefixes;

const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

/**
 * A new id: the prefix of its kind and 26 Crockford base-32 characters, of which the first ten are milliseconds
 * since the epoch, so that ids sort by time. Minted in the shell only, never in `session/` (L7).
 */
export function newId(kind: IdKind, nowMs: number = Date.now()): string {
  let time = '';
  for (let rest = nowMs, i = 0; i < 10; i++) {
    time = alphabet[rest % 32] + time;
    rest = Math.floor(rest / 32);
  }
  return idPrefixes[kind] + time + freshTail();
}

const tailBytes = 16;
/** Drawn in blocks: asking for the bytes of each id by itself costs more than all the rest of it. */
const block = new Uint8Array(64 * tailBytes);
let usedBytes = block.length;

function freshTail(): string {
  if (usedBytes === block.length) {
    randomFillSync(block);
    usedBytes = 0;
  }
  let tail = '';
  for (const end = usedBytes + tailBytes; usedBytes < end; usedBytes++)
    tail += alphabet[(block[usedBytes] ?? 0) & 31];
  return tail;
}

/** Whether `text` has the form of an id of `kind`. Says nothing about existence. */
export function isId(kind: IdKind, text: string): boolean {
  const prefix = idPrefixes[kind];
  return text.startsWith(prefix) && /^[0-9A-HJKMNP-TV-Z]{26}$/.test(text.slice(prefix.length));
}
