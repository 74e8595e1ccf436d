/** The log by itself: durable appends of one session, and of many at once. */

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { NewEvent, Store } from '../../src/store/store.ts';
import { nowMs } from './clock.ts';
import { load, moduleFile } from './code-under-test.ts';
import type { Figure } from './figure.ts';
import { figure } from './figure.ts';
import { temporaryFolder } from './processes.ts';
import { timed } from './sandbox.ts';

const tenant = { organization: 'org_default', project: 'proj_default' };
const sessionsAtOnce = 64;
/** What a step writes in one append, more or less. */
const eventsOfStep = 4;

export type StorePlan = { appends: number; windowMs: number; windows: number };

export async function measureStore(plan: StorePlan): Promise<Figure[]> {
  const { openStore } = await load<typeof import('../../src/store/open.ts')>('src/store/open');
  const directory = join(await temporaryFolder('store'), 'store');
  const summarizeModule = pathToFileURL(moduleFile('src/session/summary'));
  const store = await openStore({ directory, summarizeModule });
  try {
    await appender(store, 'warm', 1).then((append) => timed(100, append));
    const single = await timed(plan.appends, await appender(store, 'one', 1));
    const step = await timed(plan.appends, await appender(store, 'step', eventsOfStep));
    const rates = await ratesOf(store, plan);
    return [
      figure('durable append, 1 session', 'ms', single, { note: `1 event of ${eventBytes} bytes` }),
      figure(`  append of ${eventsOfStep} events`, 'ms', step, { note: 'a step makes two appends' }),
      figure(`  appends at ${sessionsAtOnce} sessions at once`, '/s', rates, {
        note: `windows of ${plan.windowMs} ms`,
      }),
    ];
  } finally {
    await store.close();
  }
}

let minted = 0;
const text = 'x'.repeat(300);
const eventBytes = JSON.stringify(eventOf('s')).length;

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

/** As a driver appends: owned, fenced, at the sequence that it folded. */
async function appender(store: Store, stream: string, events: number): Promise<() => Promise<void>> {
  await store.append({ ...tenant, stream, create: true, events: [eventOf(stream)], wakeAt: 0 });
  const claims = await store.claim('bench', 10_000);
  const claim = claims.find((one) => one.stream === stream);
  if (claim === undefined) throw new Error(`${stream} was not to be had`);
  const { fence } = claim;
  let head = claim.head;
  return async () => {
    const drafts = Array.from({ length: events }, () => eventOf(stream));
    const result = await store.append({ ...tenant, stream, fence, expectedSeq: head, events: drafts });
    if (result.status !== 'ok') throw new Error(`an append was ${result.status}`);
    head = result.head;
  };
}

async function ratesOf(store: Store, { windowMs, windows }: StorePlan): Promise<number[]> {
  const appends: (() => Promise<void>)[] = [];
  for (let at = 0; at < sessionsAtOnce; at++) appends.push(await appender(store, `many-${at}`, 1));
  const rates: number[] = [];
  for (let window = 0; window < windows; window++) {
    const startMs = nowMs();
    let count = 0;
    await Promise.all(
      appends.map(async (append) => {
        while (nowMs() - startMs < windowMs) {
          await append();
          count += 1;
        }
      }),
    );
    rates.push((count * 1000) / (nowMs() - startMs));
  }
  return rates;
}
