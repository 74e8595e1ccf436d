/**
 * One attack, from the first session to the last look at what is left. Rooms are attacked side by side, rows of a room one
 * after the other; then the host is killed under the sessions that are to be started again; then everything is deleted,
 * and what is still there is somebody's leak.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { processesNaming, signal } from '../chaos/process-table.ts';
import { type Judged, judge, type Observed, type Outside, recordOf } from './judge.ts';
import { commandLines, filesWith, lookAt, namesBelow, printedBy } from './look.ts';
import { takeHome } from './repository.ts';
import { Sessions } from './rooms.ts';
import { type Call, isProbe, type ProbeRow, type Room, type Row, type ScriptRow } from './row.ts';
import { CannotAttack, type Stage } from './stage.ts';

export type Say = (line: string) => void;

type Attempt = { row: Row; nonce: string; answer: string | null };
type Attacked = { sessions: string[]; attempts: Attempt[] };

const victimMark = '987661';
const decisionsMs = 10_000;
const pollMs = 200;

export async function run(stage: Stage, rows: readonly Row[], say: Say): Promise<Judged[]> {
  const sessions = new Sessions(stage);
  const victim = await sessions.make('sealed');
  const ready = await act(stage, victim, [`echo victim > mine; sleep ${victimMark} & echo ready`], {});
  if (ready?.join() !== 'ready')
    throw new CannotAttack(`no sandbox (${stage.isolation}) starts here: ${ready?.join() ?? 'no answer'}`);
  const rooms = [...new Set(rows.map(({ room }) => room))];
  const attacked = await Promise.all(
    rooms.map(async (room): Promise<Attacked> => {
      if (room === 'repository') {
        const environment = await sessions.environment(room);
        return attackHomeward(stage, rows, { victim, say, environment });
      }
      const session = await sessions.make(room);
      const mine = rows.filter((row) => row.room === room);
      return { sessions: [session], attempts: await attackRoom(stage, { room, session, victim }, mine, say) };
    }),
  );
  await later(stage, attacked, victim);
  const whole = await act(stage, victim, ['cat mine'], {});
  say(`the victim says: ${whole?.join() ?? 'nothing'}`);
  const decisions = await Promise.all(
    attacked.map(async ({ sessions: its, attempts }) => {
      const awaited = attempts.flatMap(({ row, nonce }) => recordOf(row, nonce) ?? []);
      return (await Promise.all(its.map((one) => decisionsOf(stage, one, awaited)))).flat();
    }),
  );
  const outside = await leave(stage, [victim, ...attacked.flatMap(({ sessions: its }) => its)]);
  const isRoot = process.getuid?.() === 0;
  const secrets = { isRoot, canaries: stage.canaries, token: stage.token };
  return attacked.flatMap(({ attempts }, at) =>
    attempts.map(({ row, ...mine }) => {
      const observed: Observed = { ...mine, decisions: decisions[at] ?? [] };
      return judge(row, observed, outside, secrets);
    }),
  );
}

type Place = { room: Room; session: string; victim: string };

async function attackRoom(stage: Stage, place: Place, rows: readonly Row[], say: Say): Promise<Attempt[]> {
  const attempts = await probe(stage, place, rows.filter(isProbe));
  for (const row of rows) {
    if (isProbe(row)) continue;
    const nonce = newNonce();
    const answers = await act(stage, place.session, row.calls, stage.environment(nonce, place.victim));
    attempts.push({ row, nonce, answer: answers?.join('\n') ?? null });
    say(`${row.id}: ${attempts.length} of ${rows.length} in ${place.room}`);
  }
  return attempts;
}

/** Each row has a session of its own, which the command line makes. */
async function attackHomeward(
  stage: Stage,
  rows: readonly Row[],
  { victim, say, environment }: { victim: string; say: Say; environment: string },
): Promise<Attacked> {
  const attacked: Attacked = { sessions: [], attempts: [] };
  for (const row of rows) {
    if (row.room !== 'repository' || isProbe(row)) continue;
    const nonce = newNonce();
    const { session, answer } = await takeHome(stage, row, {
      environment,
      variables: stage.environment(nonce, victim),
    });
    if (session !== null) attacked.sessions.push(session);
    attacked.attempts.push({ row, nonce, answer: session === null ? null : answer });
    say(`${row.id}: taken home`);
  }
  return attacked;
}

/** All probes of a program are one call: it tries them one after the other. */
async function probe(
  stage: Stage,
  { session, victim }: Place,
  rows: readonly ProbeRow[],
): Promise<Attempt[]> {
  const program = rows[0]?.probe.program;
  if (program === undefined) return [];
  // Not a shell's child: its parent is the guest's supervisor, which it attacks, too.
  const command = `exec /mnt/attack/${program} "$HOST_PORT"${program === 'kernel' ? ' "$ABSTRACT"' : ''}`;
  const answers = await act(stage, session, [command], stage.environment(newNonce(), victim));
  const said = new Map(
    (answers?.join('\n') ?? '').split('\n').map((line) => line.split('=') as [string, string]),
  );
  return rows.map((row) => ({ row, nonce: newNonce(), answer: said.get(row.probe.name) ?? null }));
}

/** The host is killed as hard as can be; the rows that wait for that go on in the sandboxes of the next one. */
async function later(stage: Stage, attacked: readonly Attacked[], victim: string): Promise<void> {
  const waiting = attacked.flatMap(({ sessions: [session = ''], attempts }) =>
    attempts.flatMap((attempt) => {
      const { later: calls } = attempt.row as Partial<ScriptRow>;
      return calls === undefined ? [] : [{ session, attempt, calls }];
    }),
  );
  if (waiting.length === 0) return;
  for (const pid of processesNaming(`${stage.dataDir}/host`)) signal(pid, 'SIGKILL');
  for (const { session, attempt, calls } of waiting) {
    const answers = await act(stage, session, calls, stage.environment(attempt.nonce, victim));
    attempt.answer = answers?.join('\n') ?? null;
  }
}

/** In lower case, so that it may be a label of a name. */
function newNonce(): string {
  return `atk${randomBytes(8).toString('hex')}`;
}

function act(
  stage: Stage,
  session: string,
  calls: readonly Call[],
  environment: Record<string, string>,
): Promise<string[] | null> {
  return stage.client.turn(session, stage.model.plan(calls, environment), calls.length);
}

/** The gateway's come by themselves, in their own time: all that rows wait for, or what there is when patience ends. */
async function decisionsOf(stage: Stage, session: string, awaited: readonly RegExp[]): Promise<string[]> {
  const untilMs = performance.now() + decisionsMs;
  for (;;) {
    const events = await stage.client.events(session);
    const found = events
      .filter(({ type }) => type.startsWith('network.'))
      .map((event) => JSON.stringify(event));
    const isWhole = awaited.every((wanted) => found.some((one) => wanted.test(one)));
    if (isWhole || performance.now() > untilMs) return found;
    await sleep(pollMs);
  }
}

/** Deletes and stops everything, and looks at what is left. */
async function leave(stage: Stage, sessions: readonly string[]): Promise<Outside> {
  const eventTypes: string[] = [];
  let terminal = '';
  for (const session of sessions) {
    eventTypes.push(...(await stage.client.events(session)).map(({ type }) => type));
    terminal += await printedBy(stage, session);
  }
  for (const session of sessions) await stage.client.ask('DELETE', `/v1/sessions/${session}`);
  const disks = await lookAt(() => namesBelow(`${stage.dataDir}/host/sessions`));
  const processes = (await lookAt(() => commandLines('atk'))).join('\n');
  await stage.close();
  const openSecrets = filesWith(stage.dataDir, [stage.token, ...stage.canaries]);
  return {
    services: stage.forbidden.seen,
    world: stage.world.seen,
    folder: filesWith(stage.outside, []).join('\n'),
    ...{ processes, terminal, eventTypes, disks, openSecrets },
  };
}
