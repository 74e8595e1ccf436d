/**
 * `scriptorium chaos`: attacks real processes by a seeded plan and says whether every promise held. A program of its
 * own beside `rehearsal/`; src/ never imports it.
 *
 * Exit code: 0 every promise held, 1 one did not, 2 wrongly asked. Loopback only. Whatever happens, no process that was
 * started is left, and the folder of the run stays only where something broke.
 */
import { appendFileSync, chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { killAll } from './processes.ts';
import { asJson, asText, isHeld } from './report.ts';
import { hostFolders, type RunOptions, run } from './run.ts';

const usage = `Usage: scriptorium chaos [options]

  --seed <n>          the plan of the attack; the same seed is the same plan (default: of the day)
  --seconds <n>       how long to attack at most (default: 60)
  --steps <n>         end the attack after so many tool calls (default: no limit)
  --sessions <n>      sessions at work at once (default: 8)
  --pace <ms>         from one fault to the next, on average (default: 700)
  --store <engine>    sqlite: one server (default); postgres: three servers and two hosts on a Postgres of their own
  --json              print the result as one line of JSON
  --keep              keep the folder of the run
`;

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seconds: { type: 'string', default: '60' },
    steps: { type: 'string' },
    sessions: { type: 'string', default: '8' },
    pace: { type: 'string', default: '700' },
    store: { type: 'string', default: 'sqlite' },
    json: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    /** For the tests of this program: takes a protection out. */
    sabotage: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

function refuse(message: string): never {
  process.stderr.write(`error: ${message}\n\n${usage}`);
  process.exit(2);
}

function count(name: string, text: string, most: number): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1 || value > most)
    refuse(`--${name} is a number from 1 to ${most}`);
  return value;
}

if (values.help) {
  process.stdout.write(usage);
  process.exit(0);
}
const { store } = values;
if (store !== 'sqlite' && store !== 'postgres') refuse(`--store ${store}: sqlite or postgres`);

const asked: Omit<RunOptions, 'folder'> = {
  seed: count('seed', values.seed ?? String(Math.floor(Date.now() / 86_400_000)), 2 ** 31),
  seconds: count('seconds', values.seconds, 86_400),
  steps: values.steps === undefined ? Number.POSITIVE_INFINITY : count('steps', values.steps, 10_000_000),
  sessions: count('sessions', values.sessions, 200),
  paceMs: count('pace', values.pace, 3_600_000),
  store,
  sabotage: values.sabotage ?? null,
  say: (line) => process.stderr.write(`chaos: ${line}\n`),
};

const folder = mkdtempSync(path.join(tmpdir(), 'scriptorium-chaos-'));
// Sandboxes of other uids reach the witness's pipe below it.
chmodSync(folder, 0o755);
const stateDirs = [['data', 'host'], ...hostFolders.map((host) => ['fleet', host])].map((names) =>
  path.join(folder, ...names),
);
const options: RunOptions = { ...asked, folder };

process.on('exit', () => stateDirs.forEach(killAll));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(130));

const result = await run(options);
const report = asJson(options, result);
process.stdout.write(values.json ? `${JSON.stringify(report)}\n` : `${asText(options, result)}\n`);
if (isHeld(result) && !values.keep) rmSync(folder, { recursive: true, force: true });
else {
  writeFileSync(path.join(folder, 'report.json'), JSON.stringify(report, null, 2));
  keepEvidence();
  options.say(`all of it is in ${folder}`);
}
process.exit(isHeld(result) ? 0 : 1);

/** A database of the run is gone by now: these are its logs, a line each; all that is known of a session that broke. */
function keepEvidence(): void {
  const { evidence, strikes, deaths, verdict } = result;
  const file = path.join(folder, 'evidence.jsonl');
  const write = (line: object): void => appendFileSync(file, `${JSON.stringify(line)}\n`);
  write({ strikes, deaths });
  const broken = new Set(verdict.violations.map(({ session }) => session));
  for (const { listed, ...session } of evidence.sessions) {
    write({ ...session, ...(broken.has(session.id) ? { listed } : {}) });
    const readers = evidence.readers.filter((reader) => reader.session === session.id);
    if (broken.has(session.id)) for (const reader of readers) write(reader);
  }
  for (const input of evidence.inputs) if (broken.has(input.session)) write(input);
}
