/** What a case of the conformance suite works with: a store in its own directory, a clock to set, drafts to append. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'vitest';
import { newId } from '../../protocol/ids.ts';
import type { JsonObject } from '../../protocol/json.ts';
import type { Append, AppendResult, NewEvent, ResourcePut, Store, StoredEvent, Tenant } from '../store.ts';

/** An engine, as the suite sees it. The reducer is `count-summary.ts`'s. */
export type Engine = {
  open(directory: string, options?: { now?: () => number }): Promise<Store>;
  /** Module whose export `open` does the same, for the child process that gets killed. */
  openModule: URL;
  /** All bytes the engine has written for a store; absent: what lies in the directory. */
  bytesAtRest?(directory: string): Promise<Buffer>;
  /** Takes away what the engine keeps outside the directory. */
  discard?(directory: string): Promise<void>;
};

export type Scratch = {
  engine: Engine;
  directory: string;
  store: Store;
  /** What the store's clock shows; only a case moves it. */
  clock: { nowMs: number };
  /** Closes the store and opens it again. */
  reopen(): Promise<Store>;
};

export type Cases = Record<string, (scratch: Scratch) => Promise<void>>;

export const tenant: Tenant = { organization: 'org_one', project: 'proj_one' };
export const stranger: Tenant = { organization: 'org_two', project: 'proj_two' };

export async function withScratch(engine: Engine, run: (scratch: Scratch) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-store-'));
  const clock = { nowMs: Date.parse('2026-03-01T12:00:00.000Z') };
  const open = (): Promise<Store> => engine.open(directory, { now: () => clock.nowMs });
  const scratch: Scratch = {
    engine,
    directory,
    clock,
    store: await open(),
    async reopen() {
      await scratch.store.close();
      scratch.store = await open();
      return scratch.store;
    },
  };
  try {
    await run(scratch);
  } finally {
    await scratch.store.close();
    await engine.discard?.(directory);
    await rm(directory, { recursive: true, force: true });
  }
}

export function draft(overrides: Partial<NewEvent> = {}): NewEvent {
  return {
    id: newId('event'),
    type: 'test.happened',
    actor: 'test',
    thread: null,
    turn: null,
    call: null,
    causation: null,
    audience: 'public',
    public: {},
    private: null,
    ...overrides,
  };
}

/** Sets members of the summary through the test reducer. */
export function setting(members: JsonObject): NewEvent {
  return draft({ public: { set: members } });
}

export function appendOf(stream: string, overrides: Partial<Append> = {}): Append {
  return { ...tenant, stream, events: [draft()], ...overrides };
}

export async function create(store: Store, stream: string, overrides: Partial<Append> = {}): Promise<void> {
  okOf(await store.append(appendOf(stream, { create: true, ...overrides })));
}

export function okOf(result: AppendResult): Extract<AppendResult, { status: 'ok' }> {
  expect(result).toMatchObject({ status: 'ok' });
  if (result.status !== 'ok') throw new Error('unreachable');
  return result;
}

export async function readAll(store: Store, stream: string): Promise<StoredEvent[]> {
  return store.read(stream, 0, 1_000_000);
}

/** Creates the stream with work to do and claims it. */
export async function claimed(
  store: Store,
  stream: string,
  worker = 'wrkr_one',
): Promise<{ fence: number; head: number }> {
  await create(store, stream, { wakeAt: 0 });
  const claims = await store.claim(worker, 10);
  const claim = claims.find((one) => one.stream === stream);
  if (claim === undefined) throw new Error(`${stream} was not claimed`);
  return claim;
}

export function put(kind: string, id: string, overrides: Partial<ResourcePut> = {}): ResourcePut {
  return {
    kind,
    id,
    version: 1,
    body: { id },
    createdAt: '2026-03-01T12:00:00.000Z',
    updatedAt: '2026-03-01T12:00:00.000Z',
    archivedAt: null,
    uniqueName: null,
    ...overrides,
  };
}
