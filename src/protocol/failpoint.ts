/**
 * Failpoints: named places where a process can be made to fail on purpose, so that what it promises can be attacked.
 *
 * Off unless SCRIPTORIUM_FAILPOINTS is set when the process starts; a place then costs one property read:
 * `if (failpoints.on) await failpoint('engine.after-claim');`
 *
 *   SCRIPTORIUM_FAILPOINTS='engine.after-act-began=kill@3;host.before-reply=stall:500@1;store.before-commit=error:ENOSPC@5-9'
 *
 * `place=action@hits`, separated by `;`. Actions: `kill` (SIGKILL to itself), `stall:MS` (of what waits there),
 * `block:MS` (of the whole thread), `error:CODE`, `drop` and `duplicate` (of replies), `jump:MS` (of the clock). Hits are
 * counted by place and thread, from 1: `@3` that one (the default is `@1`), `@3-7` those, `@3+` all from then on.
 * `sabotage.*` are protections that can be taken out (`lie`), to see that somebody notices; they are never part of a plan
 * that is to hold.
 */
import { writeSync } from 'node:fs';

/** Every place there is, so that a plan can visit all of them. */
export const failpointNames = [
  'store.before-commit',
  'store.after-commit',
  'engine.after-claim',
  'engine.after-fold',
  'engine.after-intent-append',
  'engine.after-act-began',
  'engine.after-dispatch',
  'engine.before-result-append',
  'engine.after-result-append',
  'engine.before-release',
  'model.before-request',
  'model.mid-stream',
  'model.after-response',
  'host.after-journal-write',
  'host.after-spawn',
  'host.after-exit-before-journal',
  'host.before-reply',
  'host.after-copy',
  'host.after-new-disk',
  'host.after-restore',
  'api.before-input-append',
  'api.after-input-append',
  'api.before-reply',
  'clock',
] as const;

/** Protections that can be taken out. */
export const sabotageNames = [
  /** The API says yes to an input that it never wrote (L2). */
  'sabotage.acknowledge-unwritten',
  /** The API forgets that it has seen a request key (L3). */
  'sabotage.forget-request-key',
  /** A taken-over call is run again whatever the journal says (L6). */
  'sabotage.rerun-taken-over',
  /** Tools run without an intent in the log (L5). */
  'sabotage.no-intent',
  /** A stream leaves an event out. */
  'sabotage.skip-in-stream',
  /** The store asks nobody for the fence (L3). */
  'sabotage.no-fence',
  /** Postgres: whether a worker still has its lock is not looked at (L3). */
  'sabotage.no-liveness-lock',
  /** Postgres: leases do not end (L3). */
  'sabotage.no-lease',
  /** Postgres: a worker that cannot renew its lease does not give up (L3). */
  'sabotage.no-self-fencing',
  /** Sandboxes have no seccomp filter (S2, S3). */
  'sabotage.no-seccomp',
  /** PID 1 of a sandbox is bubblewrap's own (S1). */
  'sabotage.foreign-init',
  /** The root of a sandbox can be written (S3). */
  'sabotage.writable-root',
  /** Sandboxes share the host's /tmp (S3). */
  'sabotage.host-tmp',
  /** Sandboxes without a network share the host's (S2). */
  'sabotage.host-network',
  /** Sandboxes have no limits to speak of (S4). */
  'sabotage.no-limits',
  /** The gateway gives an address for any name (S2). */
  'sabotage.any-name',
  /** The gateway lets any connection through (S2). */
  'sabotage.any-connection',
  /** The gateway takes any server name for the one that was allowed (S2). */
  'sabotage.any-server-name',
  /** The gateway dials private addresses (S2). */
  'sabotage.dial-private',
  /** The gateway counts no bytes (S4). */
  'sabotage.no-byte-cap',
  /** The gateway passes requests on for any Host (S2). */
  'sabotage.any-host',
  /** The gateway puts secrets into what is not encrypted (S1). */
  'sabotage.secret-in-clear',
  /** The gateway takes secrets out of no answer (S1). */
  'sabotage.no-redaction',
  /** The command line prints what it is given as it is. */
  'sabotage.raw-terminal',
] as const;

export type FailpointName = (typeof failpointNames)[number];
export type SabotageName = (typeof sabotageNames)[number];

/** What the place itself has to do, where it is a reply. */
export type Verdict = 'drop' | 'duplicate' | null;

type Action =
  | { type: 'kill' }
  | { type: 'stall'; ms: number }
  | { type: 'block'; ms: number }
  | { type: 'error'; code: string }
  | { type: 'drop' }
  | { type: 'duplicate' }
  | { type: 'jump'; ms: number }
  | { type: 'lie' };

type Arm = { name: string; action: Action; from: number; to: number };

export class FailpointSyntax extends Error {
  override name = 'FailpointSyntax';
}

const known = new Set<string>([...failpointNames, ...sabotageNames]);
const pattern = /^([\w.-]+)=([a-z]+)(?::([\w-]+))?(?:@(\d+)(?:(\+)|-(\d+))?)?$/;

export function parseFailpoints(text: string): Arm[] {
  return text
    .split(';')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map(parseArm);
}

function parseArm(part: string): Arm {
  const match = pattern.exec(part);
  if (!match) throw new FailpointSyntax(`not a failpoint: ${part}`);
  const [, name = '', action = '', argument, first = '1', open, last] = match;
  if (!known.has(name)) throw new FailpointSyntax(`there is no failpoint ${name}`);
  const from = Number(first);
  const to = open ? Number.POSITIVE_INFINITY : Number(last ?? first);
  return { name, action: parseAction(action, argument, part), from, to };
}

function parseAction(action: string, argument: string | undefined, part: string): Action {
  switch (action) {
    case 'kill':
    case 'drop':
    case 'duplicate':
    case 'lie':
      return { type: action };
    case 'stall':
    case 'block':
    case 'jump':
      if (!/^-?\d+$/.test(argument ?? '')) break;
      return { type: action, ms: Number(argument) };
    case 'error':
      return { type: 'error', code: argument ?? 'EIO' };
  }
  throw new FailpointSyntax(`not an action of a failpoint: ${part}`);
}

const armed = parseFailpoints(process.env.SCRIPTORIUM_FAILPOINTS ?? '');
const hits = new Map<string, number>();
let clockOffsetMs = 0;

/** `on` is what every place reads; all else happens only behind it. */
export const failpoints: { readonly on: boolean } = { on: armed.length > 0 };

function reached(name: string): Action | null {
  const hit = (hits.get(name) ?? 0) + 1;
  hits.set(name, hit);
  const arm = armed.find((one) => one.name === name && hit >= one.from && hit <= one.to);
  if (!arm) return null;
  // Straight to the descriptor: nothing that waits in a stream would survive a kill.
  writeSync(2, `failpoint ${name} ${arm.action.type} at hit ${hit}\n`);
  return arm.action;
}

/** At a place that may wait. */
export async function failpoint(name: FailpointName): Promise<Verdict> {
  const action = reached(name);
  if (action?.type === 'stall') {
    await new Promise((resolve) => setTimeout(resolve, action.ms));
    return null;
  }
  return perform(name, action);
}

/** At a place that cannot wait: a stall blocks the whole thread, as a busy loop would. */
export function failpointNow(name: FailpointName): Verdict {
  const action = reached(name);
  if (action?.type === 'stall') {
    block(action.ms);
    return null;
  }
  return perform(name, action);
}

function perform(name: string, action: Action | null): Verdict {
  switch (action?.type) {
    case 'kill':
      process.kill(process.pid, 'SIGKILL');
      // From a worker thread the signal takes a moment; nothing more may happen in it.
      return block(60_000);
    case 'block':
      return block(action.ms);
    case 'error':
      throw failureOf(name, action.code);
    case 'drop':
    case 'duplicate':
      return action.type;
    default:
      return null;
  }
}

function block(ms: number): null {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
  return null;
}

/** What SQLite calls these, so that its engine treats them as it treats its own. */
const sqliteCodes: Record<string, number> = { ENOSPC: 13, EIO: 10 };

function failureOf(name: string, code: string): Error {
  const errcode = sqliteCodes[code];
  return Object.assign(new Error(`${code} at failpoint ${name}`), {
    code,
    ...(errcode === undefined ? {} : { errcode }),
  });
}

/** Whether a protection is taken out here and now. */
export function sabotaged(name: SabotageName): boolean {
  return reached(name)?.type === 'lie';
}

/** The clock, which `clock=jump:MS@n` moves at its n-th reading. */
export function clockMs(): number {
  if (failpoints.on) {
    const action = reached('clock');
    if (action?.type === 'jump') clockOffsetMs += action.ms;
  }
  return Date.now() + clockOffsetMs;
}
