/**
 * `npm run demo`: an agent fixes a real bug in a real repository, in a sandbox, on a real server, which is killed in the
 * middle. Only the model is played.
 *
 * Promises kept here
 * - Everything goes over the public API, to servers that are processes of their own.
 * - What is claimed at the end was checked; anything else than expected fails the demo and is said (exit code 1).
 * - Nothing it started survives it. The folder with the data and the repository stays, to be looked at.
 */
import { chmod, mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { applyBundle } from '../../src/cli/repository/apply-bundle.ts';
import { takeSnapshot } from '../../src/cli/repository/snapshot.ts';
import { printDiff } from '../../src/cli/result.ts';
import { Client } from '../../src/cli/server/client.ts';
import { readDiscovery } from '../../src/cli/server/discovery.ts';
import type { SessionEvent } from '../../src/cli/server/follow.ts';
import { follow } from '../../src/cli/server/follow.ts';
import type { Page, SessionObject } from '../../src/cli/server/sessions.ts';
import { getSession, shortId } from '../../src/cli/server/sessions.ts';
import { duration, money, tokens } from '../../src/cli/terminal/figures.ts';
import { Narrator } from '../../src/cli/terminal/narrate.ts';
import { processTerminal } from '../../src/cli/terminal/terminal.ts';
import { safeText } from '../../src/cli/terminal/text.ts';
import type { JsonObject } from '../../src/protocol/json.ts';
import type { Outcome, Seen } from './checks.ts';
import { checksOf } from './checks.ts';
import type { Started } from './processes.ts';
import { endAll, endInOrder, killHard, NotStarted, start } from './processes.ts';
import type { Facts } from './project.ts';
import { makeProject, soakRounds, testRevision } from './project.ts';
import { createSession } from './session.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const DEADLINE_MS = 90_000;
const KILL_AT_ROUND = 4;
const POLL_MS = 20;

/** Something is not as it must be; the message says what. */
class DemoFailed extends Error {}

const terminal = processTerminal();
// Everything the demo tells is its result, so it all goes one way, in order.
const say = (line = ''): void => terminal.out(line);
const shown = { ...terminal, err: terminal.out, columns: terminal.columns };
const step = (text: string): void => say(`\n${terminal.paint('bold', text)}`);

type Place = {
  folder: string;
  dataDir: string;
  repository: string;
  witness: string;
  facts: Facts;
  /** To ask what this machine lacks, should the demo fail. */
  client: Client | null;
};

async function makePlace(): Promise<Place> {
  const facts = JSON.parse(
    await readFile(path.join(root, 'rehearsal/scripts/fix-bug.json'), 'utf8'),
  ) as Facts;
  const folder = await mkdtemp(path.join(tmpdir(), 'scriptorium-demo-'));
  // The sandbox has a user of its own where we are root: it has to reach the witness, and to write it.
  await chmod(folder, 0o711);
  const witness = path.join(folder, 'witness');
  await writeFile(witness, '');
  await chmod(witness, 0o666);
  const repository = path.join(folder, 'duration');
  await mkdir(repository);
  await makeProject(repository, facts);
  return { folder, dataDir: path.join(folder, 'data'), repository, witness, facts, client: null };
}

type Servers = { up(): Promise<Started>; model: Started };

async function startModel(place: Place): Promise<Servers> {
  const model = await start([
    path.join(root, 'rehearsal/main.ts'),
    '--script',
    'fix-bug',
    '--exit-with-parent',
  ]);
  const env = {
    OPENAI_API_KEY: 'played',
    OPENAI_BASE_URL: String(model.line.url),
    SCRIPTORIUM_API_KEY: '',
    SCRIPTORIUM_URL: '',
    NO_COLOR: '1',
  };
  const bind = `${place.witness}:${place.facts.witnessPath}`;
  const args = ['up', '--json', '--port', '0', '--data-dir', place.dataDir, '--bind', bind];
  return { model, up: () => start([path.join(root, 'bin/scriptorium.mjs'), ...args], env) };
}

/** Where the server is now: the file it leaves in its data directory. The key is the one it printed. */
function clientOf(place: Place, first: Started): Client {
  const apiKey = String(first.line.api_key);
  const locate = async () => ({ url: (await readDiscovery(place.dataDir))?.url ?? '', apiKey });
  return new Client({ url: String(first.line.url), apiKey }, locate);
}

/**
 * What the server finds lacking on this machine, for a demo that failed. Not asked before: a probe costs time, and
 * what cannot be had shows soon enough.
 */
async function lacksOf(client: Client | null): Promise<string[]> {
  if (client === null) return [];
  type Report = { checks?: { check: string; ok: boolean; found: string; remedy: string | null }[] };
  const report = await Promise.race([client.get<Report>('/v1/doctor'), sleep(5_000, null)]).catch(() => null);
  const needed = new Set(['system', 'native programs', 'bubblewrap', 'seccomp', 'sandbox', 'git']);
  return (report?.checks ?? [])
    .filter(({ check, ok }) => !ok && needed.has(check))
    .map(({ check, found, remedy }) => `  ${check}: ${found}${remedy === null ? '' : `\n    → ${remedy}`}`);
}

type Watch = { streamed: Seen[]; done: Promise<SessionEvent> };

/** By the log's own clock, which is this machine's: what was appended first after `ms`. */
function firstAfter(streamed: readonly Seen[], ms: number): number | null {
  const times = streamed.map(({ event }) => Date.parse(event.processed_at ?? ''));
  return times.find((time) => time >= ms) ?? null;
}

/** Shows the session live and keeps all it saw. `done` is the event with which the turn ended. */
function watchLive(client: Client, session: string, signal: AbortSignal): Watch & { narrator: Narrator } {
  const narrator = new Narrator(shown);
  const streamed: Seen[] = [];
  const consume = async (): Promise<SessionEvent> => {
    for await (const item of follow(client, session, { after: 0, previews: true, signal })) {
      narrator.show(item);
      if (item.kind !== 'event') continue;
      streamed.push({ event: item.event, seq: item.seq });
      if (item.event.type === 'session.status_idle') return item.event;
    }
    throw new DemoFailed('the stream ended before the turn did');
  };
  return { narrator, streamed, done: consume() };
}

async function witnessLines(place: Place): Promise<number> {
  return (await readFile(place.witness, 'utf8')).split('\n').length - 1;
}

async function waitForRound(place: Place, round: number, what: string): Promise<void> {
  for (const untilMs = Date.now() + 30_000; (await witnessLines(place)) < round; await sleep(POLL_MS))
    if (Date.now() > untilMs)
      throw new DemoFailed(`${what}: the witness has only ${await witnessLines(place)} lines`);
}

type Killed = { linesWithoutEngine: number; recoveryMs: () => number; downMs: number; second: Started };

/** SIGKILL in the middle of the command; a pause to see it go on alone; another server on the same data. */
async function killInTheMiddle(
  place: Place,
  servers: Servers,
  first: Started,
  watch: Watch,
): Promise<Killed> {
  await waitForRound(place, KILL_AT_ROUND, 'the soak did not start');
  await killHard(first);
  const killedMs = Date.now();
  const atKill = await witnessLines(place);
  say(
    terminal.paint(
      'red',
      `\n  kill -9 ${first.pid}: no server, no engine any more (the command was at round ${atKill})`,
    ),
  );
  await waitForRound(place, soakRounds, 'the command did not go on without an engine');
  const linesWithoutEngine = (await witnessLines(place)) - atKill;
  say(
    terminal.paint('green', `  the command went on alone in its sandbox: ${linesWithoutEngine} more rounds`),
  );
  const startMs = Date.now();
  const second = await servers.up();
  say(
    terminal.paint(
      'green',
      `  another server, process ${second.pid}, on the same data (ready in ${duration(Date.now() - startMs)})\n`,
    ),
  );
  const recoveryMs = () => {
    const moved = firstAfter(watch.streamed, startMs);
    if (moved === null) throw new DemoFailed('the session did not move after the restart');
    return moved - startMs;
  };
  return { linesWithoutEngine, recoveryMs, downMs: startMs - killedMs, second };
}

async function allEvents(client: Client, session: string): Promise<SessionEvent[]> {
  const events: SessionEvent[] = [];
  for (let page: string | undefined; ; ) {
    const got: Page<SessionEvent> = await client.get(`/v1/sessions/${session}/events`, {
      query: { page, limit: '100' },
    });
    events.push(...got.data);
    if (got.next_page === null) return events;
    page = got.next_page;
  }
}

type Delivery = { file: { id: string }; branch: string; head: string };

/** As `scriptorium apply` does it. */
async function bringHome(
  client: Client,
  session: string,
  place: Place,
): Promise<{ branch: string; commits: string[] }> {
  const delivery = await client.post<Delivery>(`/v1/sessions/${session}/delivery`);
  const response = await client.open(`/v1/files/${delivery.file.id}/content`);
  const bundlePath = path.join(place.folder, 'delivery.bundle');
  await writeFile(bundlePath, Buffer.from(await response.arrayBuffer()));
  const branch = `scriptorium/${shortId(session)}`;
  const applied = await applyBundle({
    folder: place.repository,
    bundlePath,
    ref: delivery.branch,
    head: delivery.head,
    branch,
  });
  if (!applied.ok) throw new DemoFailed(applied.message);
  return { branch, commits: applied.commits.map((commit) => commit.subject) };
}

function reportChecks(outcome: Outcome): void {
  const checks = checksOf(outcome);
  for (const { what, problem } of checks)
    say(
      `  ${problem === null ? terminal.paint('green', '✓') : terminal.paint('red', '✗')} ${what}${problem === null ? '' : `: ${safeText(problem)}`}`,
    );
  const failed = checks.filter(({ problem }) => problem !== null);
  if (failed.length > 0) throw new DemoFailed(`${failed.length} of ${checks.length} checks failed`);
}

function tellFigures(session: SessionObject, outcome: Outcome, killed: Killed): void {
  const { usage } = session;
  const input = usage.input_tokens + usage.cache_read_input_tokens;
  const rows: [string, string][] = [
    ['tests before', `${outcome.before.pass} pass, ${outcome.before.fail} fail`],
    ['tests after', `${outcome.after.pass} pass, ${outcome.after.fail} fail`],
    ['events', String(outcome.listed.length)],
    [
      'tokens',
      `${tokens(input)} in (${tokens(usage.cache_read_input_tokens)} from the cache), ${tokens(usage.output_tokens)} out`,
    ],
    ['price', `${money(usage.cost_micros ?? null)} (of a model that is only played)`],
    [
      'recovery',
      `${duration(killed.recoveryMs())} from starting the new server to the session moving again; no engine for ${duration(killed.downMs)} before, on purpose`,
    ],
  ];
  for (const [name, value] of rows) say(`  ${name.padEnd(14)}${value}`);
}

function tellNext(place: Place, session: string, branch: string): void {
  const scriptorium = path.relative(process.cwd(), path.join(root, 'bin/scriptorium'));
  const at = `--data-dir ${place.dataDir}`;
  for (const line of [
    `git -C ${place.repository} log -p main..${branch}`,
    `${scriptorium} up ${at} --port 0 &          # the same data, once more`,
    `${scriptorium} show ${session} ${at}`,
    `${scriptorium} events ${session} ${at} --operator`,
    `rm -rf ${place.folder}                      # when you have seen enough`,
  ])
    say(`  ${line}`);
}

async function demo(place: Place, signal: AbortSignal): Promise<void> {
  step('1  A repository with a bug, a server, and a model that is played');
  const servers = await startModel(place);
  const startMs = Date.now();
  const first = await servers.up();
  say(
    `  server: process ${first.pid}, ready in ${duration(Date.now() - startMs)}; repository: ${place.repository}`,
  );
  say(
    '  Only the model is played, by a program of ours that speaks the real wire protocol; all else is the real thing.',
  );
  const client = clientOf(place, first);
  place.client = client;
  const before = await testRevision(place.repository, 'main', path.join(place.folder, 'before'));

  step('2  The agent works, live; in the middle of its command we kill the server');
  const taken = await takeSnapshot(place.repository);
  if (!taken.ok) throw new DemoFailed(taken.message);
  const session = await createSession(client, taken.snapshot, place.facts.prompt);
  await taken.snapshot.dispose();
  const watch = watchLive(client, session.id, signal);
  const killed = await Promise.race([
    killInTheMiddle(place, servers, first, watch),
    watch.done.then(() => Promise.reject(new DemoFailed('the turn ended before there was anything to kill'))),
  ]);
  const idle = await watch.done;
  watch.narrator.stop();

  step('3  What it made');
  const { diff } = await client.get<{ diff: string }>(`/v1/sessions/${session.id}/diff`);
  printDiff(shown, diff);
  const home = await bringHome(client, session.id, place);
  const after = await testRevision(place.repository, home.branch, path.join(place.folder, 'after'));

  step('4  What must hold');
  const stopReason = String((idle.stop_reason as JsonObject | undefined)?.type);
  const outcome: Outcome = {
    facts: place.facts,
    witness: await readFile(place.witness, 'utf8'),
    streamed: watch.streamed,
    listed: await allEvents(client, session.id),
    stopReason,
    diff,
    before,
    after,
    commits: home.commits,
    linesWithoutEngine: killed.linesWithoutEngine,
  };
  reportChecks(outcome);

  step('5  Figures');
  tellFigures(await getSession(client, session.id), outcome, killed);
  step('Look further');
  tellNext(place, session.id, home.branch);
  await endInOrder(killed.second);
}

async function main(): Promise<number> {
  const stopping = new AbortController();
  let place: Place | null = null;
  const stopped = new Promise<never>((_, reject) => {
    const stop = (why: string) => reject(new DemoFailed(why));
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.on(name, () => stop(`stopped by ${name}`));
    setTimeout(() => stop(`it did not end within ${duration(DEADLINE_MS)}`), DEADLINE_MS).unref();
  });
  try {
    place = await makePlace();
    await Promise.race([demo(place, stopping.signal), stopped]);
    say(terminal.paint('green', '\nThe demo did what it claims.'));
    return 0;
  } catch (error) {
    // Nothing more is told of the session, or it would stand between these lines.
    stopping.abort();
    const isExpected =
      error instanceof Error &&
      (error instanceof DemoFailed || error instanceof NotStarted || error.name === 'Refused');
    say(
      terminal.paint(
        'red',
        `\nThe demo FAILED: ${safeText(isExpected ? error.message : String((error as Error).stack))}`,
      ),
    );
    const lacks = await lacksOf(place?.client ?? null);
    if (lacks.length > 0)
      say(['This machine lacks what a sealed sandbox needs:', ...lacks.map(safeText)].join('\n'));
    if (place !== null) say(`Its folder: ${place.folder}`);
    return 1;
  } finally {
    stopping.abort();
    if (place !== null) await endAll(path.join(place.dataDir, 'host'));
  }
}

process.exit(await main());
