/**
 * Durable appends through our contract beside plain SQL, on SQLite and on Postgres: rates at several sessions at once,
 * and two appends of one session of which the second waits for the first, as the steps of a durable workflow do.
 *
 * Windows of ours and of plain SQL take turns, so that both see the same machine. Both run in the process of the bench,
 * so does all that the client side of either costs.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { Append, NewEvent, Store } from '../../src/store/store.ts';
import { nowMs } from './clock.ts';
import { load, moduleFile } from './code-under-test.ts';
import { freshDatabase } from './database.ts';
import type { Figure } from './figure.ts';
import { figure } from './figure.ts';
import type { Peer } from './peer-process.ts';
import type { Plain } from './plain-sql.ts';
import { plainPostgres, plainSqlite } from './plain-sql.ts';
import { temporaryFolder } from './processes.ts';
import { median } from './stats.ts';
import type { StepAppends } from './step-appends.ts';
import { recordStep } from './step-appends.ts';

export type AppendsPlan = { windowMs: number; windows: number; pairs: number };

type Engine = { name: string; store: Store; plain: Plain };

const tenant = { organization: 'org_default', project: 'proj_default' };
const sessionsAtOnce = [1, 16, 64];
const most = 64;
const rateTarget = 10_000;
const pairTargetMs = 1.1;

export async function measureAppends(peer: Peer, isIsolated: boolean, plan: AppendsPlan): Promise<Figure[]> {
  const step = await recordStep(peer, isIsolated);
  const figures: Figure[] = [];
  for (const open of [sqliteEngine, postgresEngine]) {
    const engine = await open();
    try {
      figures.push(...(await ratesOf(engine, plan)), ...(await pairsOf(engine, step, plan.pairs)));
    } finally {
      await engine.plain.close();
      await engine.store.close();
    }
  }
  return figures;
}

async function sqliteEngine(): Promise<Engine> {
  const folder = await temporaryFolder('appends');
  return {
    name: 'SQLite',
    store: await opened({ directory: join(folder, 'store') }),
    plain: plainSqlite(folder),
  };
}

async function postgresEngine(): Promise<Engine> {
  const { url, masterKeyFile } = await freshDatabase();
  return {
    name: 'Postgres',
    store: await opened({ databaseUrl: url, masterKeyFile }),
    plain: await plainPostgres(url, most),
  };
}

async function opened(
  where: { directory: string } | { databaseUrl: string; masterKeyFile: string },
): Promise<Store> {
  const { openStore } = await load<typeof import('../../src/store/open.ts')>('src/store/open');
  return openStore({ ...where, summarizeModule: pathToFileURL(moduleFile('src/session/summary')) });
}

async function ratesOf(engine: Engine, plan: AppendsPlan): Promise<Figure[]> {
  const { name, store, plain } = engine;
  const writers: (() => Promise<void>)[] = [];
  for (let at = 0; at < most; at++) writers.push(await appender(store, `rate-${at}`));
  const figures: Figure[] = [];
  for (const sessions of sessionsAtOnce) {
    const ours = writers.slice(0, sessions);
    const theirs = ours.map((_, at) => () => plain.insert(at, JSON.stringify(eventOf(`rate-${at}`))));
    await rateOf(ours, plan.windowMs / 4);
    await rateOf(theirs, plan.windowMs / 4);
    const [rates, references]: number[][] = [[], []];
    for (let window = 0; window < plan.windows; window++) {
      rates?.push(await rateOf(ours, plan.windowMs));
      references?.push(await rateOf(theirs, plan.windowMs));
    }
    figures.push(
      figure(`${name}: durable appends, ${sessions} at once`, '/s', rates ?? [], {
        ...(sessions === most ? { target: rateTarget } : {}),
      }),
      figure('  reference: plain INSERT, one a transaction', '/s', references ?? [], {
        note: `${plainNote(name, sessions)}; ours is ${(median(rates ?? []) / median(references ?? [])).toFixed(2)} of it`,
      }),
    );
  }
  return figures;
}

function plainNote(name: string, sessions: number): string {
  return name === 'SQLite' ? 'synchronous=FULL, one writer' : `fsync on, ${sessions} connections`;
}

async function rateOf(writers: readonly (() => Promise<void>)[], windowMs: number): Promise<number> {
  const startMs = nowMs();
  let count = 0;
  const write = async (one: () => Promise<void>): Promise<void> => {
    while (nowMs() - startMs < windowMs) {
      await one();
      count += 1;
    }
  };
  await Promise.all(writers.map(write));
  return (count * 1000) / (nowMs() - startMs);
}

/** Two appends of one session, the second after the first is durable. */
async function pairsOf(engine: Engine, step: StepAppends, pairs: number): Promise<Figure[]> {
  const { name, store, plain } = engine;
  const small = await appender(store, 'pair-small');
  const append = await owner(store, step.create('sesn_PAIR'));
  const [whole, bare, plainly]: [number[], number[], number[]] = [[], [], []];
  const payload = JSON.stringify(eventOf('pair'));
  for (let at = -warmPairs; at < pairs; at++) {
    const { intent, result } = step.step('sesn_PAIR');
    const times = [
      await lapMs(async () => {
        await append(intent);
        await append(result);
      }),
      await lapMs(async () => {
        await small();
        await small();
      }),
      await lapMs(async () => {
        await plain.insert(0, payload);
        await plain.insert(0, payload);
      }),
    ];
    if (at < 0) continue;
    for (const [which, all] of [whole, bare, plainly].entries()) all.push(times[which] ?? Number.NaN);
  }
  return [
    figure(`${name}: intent + result, as a step writes them`, 'ms', whole, {
      target: pairTargetMs,
      note: step.note,
    }),
    figure('  the same with one small event each', 'ms', bare, {
      target: pairTargetMs,
      note: `${payload.length} bytes an event; engines of durable steps publish about 1.7 ms for a step`,
    }),
    figure('  reference: two plain INSERTs', 'ms', plainly),
    ...(name === 'SQLite' ? [await threadReference(pairs)] : []),
  ];
}

/**
 * Our SQLite has a thread of its own: what it takes to go there and back on this machine now. With a rest before each
 * trip, because a thread that waits for the disk sleeps; between two that are awake it is a fifth of that.
 */
async function threadReference(pairs: number): Promise<Figure> {
  const worker = new Worker(
    "require('node:worker_threads').parentPort.on('message', function (m) { this.postMessage(m); })",
    { eval: true },
  );
  const trip = (): Promise<void> =>
    new Promise((resolve) => {
      worker.once('message', () => resolve());
      worker.postMessage(1);
    });
  const times: number[] = [];
  for (let at = -warmPairs; at < pairs; at++) {
    await sleep(1);
    const first = await lapMs(trip);
    await sleep(1);
    const second = await lapMs(trip);
    if (at >= 0) times.push(first + second);
  }
  await worker.terminate();
  return figure('  reference: to a sleeping thread and back, twice', 'ms', times);
}

const warmPairs = 50;

async function lapMs(act: () => Promise<void>): Promise<number> {
  const startMs = nowMs();
  await act();
  return nowMs() - startMs;
}

let minted = 0;
const text = 'x'.repeat(300);

function eventOf(stream: string): NewEvent {
  minted += 1;
  return {
    id: `sevt_bench_${stream}_${minted}`,
    type: 'agent.tool_result',
    actor: 'engine:bench',
    thread: null,
    turn: null,
    call: null,
    causation: null,
    audience: 'public',
    public: { content: [{ type: 'text', text }] },
    private: null,
  };
}

async function appender(store: Store, stream: string): Promise<() => Promise<void>> {
  const append = await owner(store, { ...tenant, stream, create: true, events: [eventOf(stream)] });
  return () => append({ ...tenant, stream, events: [eventOf(stream)] });
}

/** As a driver appends: owned, fenced, at the sequence that it folded. */
async function owner(store: Store, create: Append): Promise<(append: Append) => Promise<void>> {
  const { stream } = create;
  const created = await store.append({ ...create, wakeAt: 0 });
  if (created.status !== 'ok') throw new Error(`${stream} was not made: ${JSON.stringify(created)}`);
  const claim = await store.claimStream('bench', stream);
  if (claim === null) throw new Error(`${stream} was not to be had`);
  const { fence } = claim;
  let head = claim.head;
  return async (append) => {
    const result = await store.append({ ...append, fence, expectedSeq: head });
    if (result.status !== 'ok') throw new Error(`an append was ${JSON.stringify(result)}`);
    head = result.head;
  };
}
