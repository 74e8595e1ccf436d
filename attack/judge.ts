/**
 * What came of a row, from what was answered inside and from what was seen outside. Pure; it shares no code with what it
 * judges. What is not exactly the expected refusal is a leak until somebody says otherwise (S4).
 */
import { isProbe, type Row, type ScriptRow } from './row.ts';

export type Verdict = 'held' | 'detected' | 'leaked' | 'no_tool';

/** One row's own. */
export type Observed = {
  /** In its environment; where it shows up outside, the row is its cause. */
  nonce: string;
  /** What the tools gave back, joined; of a probe, the answer to its name. Null: nothing came back. */
  answer: string | null;
  /** The gateway's decisions in the session's log, as JSON. */
  decisions: readonly string[];
};

/** The whole run's, once everything was stopped. */
export type Outside = {
  /** What was said to services that nobody may reach. */
  services: readonly string[];
  /** What the world saw: a line a request or connection. */
  world: readonly string[];
  /** Names and contents below the folder that everybody may write. */
  folder: string;
  /** Command lines of the machine after the sessions were deleted. */
  processes: string;
  /** What the command line printed of the sessions. */
  terminal: string;
  eventTypes: readonly string[];
  /** Of deleted sessions, on the host. */
  disks: readonly string[];
  /** Files of the server in which a secret lies open. */
  openSecrets: readonly string[];
};

export type Secrets = {
  /** The server is root's: nothing is excused. */ isRoot: boolean;

  /** Nobody may see them inside. */ canaries: readonly string[] /** Of the vault. */;
  token: string;
};

export type Judged = { row: Row; verdict: Verdict; why: string; isBroken: boolean; answer: string | null };

export function judge(row: Row, observed: Observed, outside: Outside, secrets: Secrets): Judged {
  const [verdict, why] = verdictOf(row, observed, outside, secrets);
  return { row, verdict, why, isBroken: isBroken(row, verdict, secrets.isRoot), answer: observed.answer };
}

/** Whether this verdict is another than the row, or the documentation, says. */
function isBroken(row: Row, verdict: Verdict, isRoot: boolean): boolean {
  if (verdict === 'no_tool') return true;
  if (verdict === 'held' || (row.weakAsUser !== undefined && !isRoot)) return false;
  return !(verdict === 'detected' && !isProbe(row) && row.least === 'detected');
}

function verdictOf(row: Row, observed: Observed, outside: Outside, secrets: Secrets): [Verdict, string] {
  const { answer } = observed;
  if (answer === null) return ['leaked', 'no answer came back: it is not known what happened'];
  const missing = /^NO_TOOL (\S+)/m.exec(answer)?.[1];
  if (missing !== undefined) return ['no_tool', `${missing} is not there, so nothing was tried`];
  const leak = leakOf(row, observed, outside, secrets);
  if (leak !== null) return ['leaked', leak];
  if (isProbe(row)) {
    const isRefused = row.probe.answers.includes(answer);
    return isRefused
      ? ['held', answer]
      : ['leaked', `answered ${answer}, not ${row.probe.answers.join(' or ')}`];
  }
  return judgeAnswer(row, observed, answer);
}

/** What the log must say of this row; null: nothing. */
export function recordOf(row: Row, nonce: string): RegExp | null {
  if (isProbe(row) || row.recorded === undefined) return null;
  return new RegExp(row.recorded.source.replaceAll('NONCE', nonce));
}

function judgeAnswer(row: ScriptRow, { nonce, decisions }: Observed, answer: string): [Verdict, string] {
  const recorded = recordOf(row, nonce);
  const isSeen = recorded === null || decisions.some((one) => recorded.test(one));
  const isRefused = row.refusal.test(answer) && !row.never?.test(answer);
  if (isRefused && isSeen) return ['held', 'refused as expected'];
  if (!isRefused && recorded !== null && isSeen)
    return ['detected', `not refused as expected, but in the log. Answered: ${shown(answer)}`];
  const lack = isRefused ? `refused, but the log does not say ${row.recorded}` : `not the expected answer`;
  return ['leaked', `${lack}. Answered: ${shown(answer)}`];
}

/** What was seen where it must not be, in words; null: nothing. */
function leakOf(row: Row, observed: Observed, outside: Outside, { canaries, token }: Secrets): string | null {
  const { nonce, answer } = observed;
  if (canaries.some((one) => (answer ?? '').includes(one))) return 'a secret was seen inside';
  if (outside.services.some((one) => one.includes(nonce))) return 'it reached a service of the host';
  if (outside.folder.includes(nonce)) return 'it changed a folder of the host';
  if (outside.processes.includes(nonce)) return 'a process of it was left on the host';
  if (isProbe(row)) return null;
  const mine = outside.world.filter((one) => one.includes(nonce));
  const stray = mine.find((one) => !row.world?.test(one));
  if (stray !== undefined) return `it reached the world: ${shown(stray)}`;
  if (!row.mayCarrySecret && mine.some((one) => one.includes(token))) return 'the secret left for the world';
  if (row.world !== undefined && mine.length === 0) return 'the world saw nothing, so nothing was tried';
  return besides(row, outside);
}

function besides({ outside: what }: ScriptRow, outside: Outside): string | null {
  if (what === 'terminal' && /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]/.test(outside.terminal))
    return 'the command line printed a control character';
  if (what === 'events' && outside.eventTypes.some((type) => type.startsWith('attack.')))
    return 'an event was forged';
  if (what === 'disk' && outside.disks.length > 0) return `left on the disk: ${outside.disks.join(', ')}`;
  if (what === 'at-rest' && outside.openSecrets.length > 0)
    return `a secret lies open in ${outside.openSecrets.join(', ')}`;
  return null;
}

function shown(text: string): string {
  const flat = JSON.stringify(text);
  return flat.length <= 300 ? flat : `${flat.slice(0, 180)} … ${flat.slice(-110)}`;
}
