/**
 * `scriptorium attack`: hostile scripts, run by a malicious model through a whole server, and what came of each. A program
 * of its own beside `chaos/`; src/ never imports it.
 *
 * Exit code: 0 every row is as promised, 1 one is not, 2 wrongly asked, or it cannot be attacked here. Loopback only.
 */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { killAll } from '../chaos/processes.ts';
import { rerunAsUser } from './as-user.ts';
import { asJson, asText, isHeld } from './report.ts';
import { rowsFor } from './rows/all.ts';
import { run } from './run.ts';
import { CannotAttack, Stage } from './stage.ts';

const usage = `Usage: scriptorium attack [options]

  --isolation <backend>  what isolates the sandboxes: bubblewrap (default) or gvisor
  --only <ids>           rows, or beginnings of their ids, with commas between
  --as-user              as root: run everything as an ordinary user
  --list                 print the rows and attack nothing
  --json                 print the result as one line of JSON
  --keep                 keep the folder of the run
`;

const { values } = parseArgs({
  options: {
    isolation: { type: 'string', default: 'bubblewrap' },
    only: { type: 'string' },
    'as-user': { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    /** For the tests of this program: protections to take out, with commas between. */
    sabotage: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

function sabotageOf(names: string | undefined): string | null {
  return (
    names
      ?.split(',')
      .map((name) => `sabotage.${name}=lie@1+`)
      .join(';') ?? null
  );
}

function refuse(message: string): never {
  process.stderr.write(`error: ${message}\n`);
  process.exit(2);
}

if (values.help) {
  process.stdout.write(usage);
  process.exit(0);
}
const { isolation } = values;
if (isolation !== 'bubblewrap' && isolation !== 'gvisor')
  refuse(`--isolation ${isolation}: it is bubblewrap or gvisor`);
const rows = rowsFor(isolation);
const wanted = values.only?.split(',').map((one) => one.trim());
const chosen = rows.filter(({ id }) => wanted?.some((one) => id.startsWith(one)) ?? true);
const unknown = wanted?.find((one) => !rows.some(({ id }) => id.startsWith(one)));
if (unknown !== undefined) refuse(`--only ${unknown}: there is no such row; --list prints them`);
if (values.list) {
  for (const row of chosen)
    process.stdout.write(`${row.id.padEnd(34)} ${row.promises.join(' ').padEnd(6)} ${row.title}\n`);
  process.exit(0);
}
if (values['as-user'])
  process.exit(await rerunAsUser(process.argv.slice(2).filter((one) => one !== '--as-user')));

const say = (line: string): void => void process.stderr.write(`attack: ${line}\n`);
const folder = mkdtempSync(path.join(tmpdir(), 'scriptorium-attack-'));
// Sandboxes of other uids find the probes and the folder that is everybody's below it.
chmodSync(folder, 0o755);
process.on('exit', () => {
  for (const place of ['host', 'gateway']) killAll(path.join(folder, 'data', place));
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(130));

const beganMs = performance.now();
try {
  const stage = await Stage.open({ folder, isolation, failpoints: sabotageOf(values.sabotage) });
  const judged = await run(stage, chosen, say);
  const seconds = Math.round((performance.now() - beganMs) / 100) / 10;
  const about = {
    isolation,
    user: process.getuid?.() === 0 ? 'root' : 'an ordinary user',
    seconds,
  };
  const report = asJson(about, judged);
  process.stdout.write(values.json ? `${JSON.stringify(report)}\n` : `${asText(about, judged)}\n`);
  process.exitCode = isHeld(judged) ? 0 : 1;
  if (values.keep) writeFileSync(path.join(folder, 'report.json'), JSON.stringify(report, null, 2));
} catch (error) {
  if (!(error instanceof CannotAttack)) throw error;
  process.stderr.write(`error: ${error.message}\n`);
  process.exitCode = 2;
} finally {
  if (values.keep) say(`all of it is in ${folder}`);
  else rmSync(folder, { recursive: true, force: true });
}
process.exit();
