/**
 * An engine with everything real about it but its hands: SQLite store, the Responses wire to a rehearsal, and an
 * executor in memory. Also the client's side: sessions, messages, and waiting for what the log will say.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Rehearsal, startRehearsal } from '../../rehearsal/peer.ts';
import type { Script } from '../../rehearsal/script.ts';
import { assembleEngine } from '../../src/engine/assemble.ts';
import { asNew } from '../../src/engine/drive.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { type NetworkParts, SessionNetworks } from '../../src/engine/network.ts';
import { decide } from '../../src/guard/guard.ts';
import { builtInPrices } from '../../src/model/prices.ts';
import { newId } from '../../src/protocol/ids.ts';
import type { PreviewFrame } from '../../src/protocol/previews.ts';
import type { Draft, PinnedTool, StopReason } from '../../src/session/events.ts';
import type { SessionConfig } from '../../src/session/state.ts';
import { openBlobs, openStore } from '../../src/store/open.ts';
import type { Blobs, Store, StoredEvent } from '../../src/store/store.ts';
import { StoreUnavailable } from '../../src/store/store.ts';
import { toolSchemas } from '../../src/tools/toolset.ts';
import { MemoryExecutor } from './memory-executor.ts';
import { watched } from './watched-store.ts';

export const tenant = { organization: 'org_test', project: 'proj_test' };
const limits = { memoryBytes: 1e9, processes: 100, openFiles: 100, tmpBytes: 1e6, fileBytes: 1e9 };

export type Policies = Record<string, 'always_allow' | 'always_ask'>;

export class EngineRoom {
  executor = new MemoryExecutor();
  errors: unknown[] = [];
  /** What streams would have been shown live. */
  previews: PreviewFrame[] = [];
  /** What the engine sees of the store; a test may put something faulty in between. */
  between: (store: Store) => Store = (store) => store;
  onError: (error: unknown) => void = (error) => this.errors.push(error);
  onPreview: (frame: PreviewFrame) => void = (frame) => this.previews.push(frame);
  slots = 64;
  /** How far the engine's clock is ahead of ours. */
  aheadMs = 0;
  /** Sessions may use the network; a test says how. */
  network: Omit<NetworkParts, 'store' | 'onError'> | null = null;
  /** What a test's sessions pin besides the usual. */
  config: Partial<SessionConfig> = {};
  store!: Store;
  peer!: Rehearsal;
  engine!: Engine;
  #directory = '';
  #networks: SessionNetworks | null = null;

  async open(script: Script): Promise<this> {
    this.#directory = await mkdtemp(join(tmpdir(), 'scriptorium-engine-'));
    this.peer = await startRehearsal({ script });
    await this.openStore();
    await this.startEngine();
    return this;
  }

  async openStore(): Promise<void> {
    const summarizeModule = new URL('../../src/session/summary.ts', import.meta.url);
    this.store = await openStore({ directory: this.#directory, summarizeModule });
  }

  async startEngine(): Promise<void> {
    const onError = (error: unknown) => this.onError(error);
    this.#networks = this.network && new SessionNetworks({ ...this.network, store: this.store, onError });
    this.engine = assembleEngine({
      store: this.between(watched(this.store, (problem) => this.errors.push(problem))),
      blobs: this.blobs,
      executor: this.executor,
      decide,
      model: { apiKey: 'sk-test', baseURL: this.peer.url },
      prices: builtInPrices,
      limits,
      onPreview: (_session, frame) => this.onPreview(frame),
      onError: (error) => this.onError(error),
      nowMs: () => Date.now() + this.aheadMs,
      slots: this.slots,
      random: () => 0.01,
      ...(this.#networks ? { networks: this.#networks } : {}),
    });
    await this.engine.start();
  }

  get blobs(): Blobs {
    return openBlobs(this.#directory);
  }

  /** As kill -9 does to its process: nothing is released, nothing is told to the host. */
  async killAndReplace(): Promise<void> {
    await this.store.close(); // its appends fail from here on
    const dead = this.engine;
    this.#networks?.stop();
    await this.openStore();
    await this.startEngine();
    await dead.stop().catch(() => undefined);
    this.errors.length = 0; // what the dead one complains of is its own affair
  }

  async close(): Promise<void> {
    try {
      this.#networks?.stop();
      await this.engine.stop();
      await this.peer.stop();
      await this.store.close();
    } finally {
      await rm(this.#directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    }
  }

  /** As a client does: asks again with the same key while the store is away between two engines. */
  async send(session: string, ...events: Draft[]): Promise<void> {
    const request = { key: newId('request'), hash: 'same' };
    for (let tries = 0; ; tries++) {
      try {
        const append = { ...tenant, stream: session, request, events: events.map(asNew), wakeAt: Date.now() };
        const { status } = await this.store.append(append);
        if (status === 'ok' || status === 'duplicate') return;
        throw new Error(`not sent: ${status}`);
      } catch (error) {
        if (!(error instanceof StoreUnavailable) || tries > 400) throw error;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
  }

  async createSession(policies: Policies, ...inputs: Draft[]): Promise<string> {
    const session = newId('session');
    const config = { ...configOf(session, policies), ...this.config };
    const created = event('session.created', { title: null }, config);
    const events = [created, ...inputs].map(asNew);
    const request = { ...tenant, stream: session, create: true, events, wakeAt: Date.now() };
    const appended = await this.store.append(request);
    if (appended.status !== 'ok') throw new Error(`not created: ${appended.status}`);
    return session;
  }

  /** Empty while the store is closed between two engines. */
  async log(session: string): Promise<StoredEvent[]> {
    try {
      return await this.store.read(session, 0, 100_000);
    } catch (error) {
      if (error instanceof StoreUnavailable) return [];
      throw error;
    }
  }

  async until(session: string, isIt: (log: StoredEvent[]) => boolean): Promise<StoredEvent[]> {
    for (let tries = 0; tries < 2_000; tries++) {
      const log = await this.log(session);
      if (isIt(log)) return log;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const log = (await this.log(session)).map(({ seq, type }) => `${seq} ${type}`);
    throw new Error(`it never happened; the log is:\n${log.join('\n')}`);
  }
}

function configOf(session: string, policies: Policies): object {
  const tools = Object.entries(policies).map(
    ([name, policy]): PinnedTool => ({ kind: 'builtin', name, policy, isPure: name === 'read' }),
  );
  return {
    thread: 'sthr_1',
    agent: { id: 'agent_1', version: 1, name: 'tester' },
    environmentId: 'env_1',
    environment: {},
    prefix: {
      model: 'rehearsal-1',
      effort: null,
      instructions: 'Test.',
      tools: toolSchemas(Object.keys(policies)),
      maxOutputTokens: null,
      cacheKey: session,
    },
    tools,
    isolation: 'bubblewrap',
    repository: null,
    uploads: [],
    metadata: {},
    resources: [],
  };
}

export function event(type: string, payload: object, secret: object | null = null): Draft {
  const envelope = { actor: 'user:test', thread: 'sthr_1', turn: null, call: null, causation: null };
  return {
    id: newId('event'),
    type,
    ...envelope,
    audience: 'public',
    public: payload,
    private: secret,
  } as Draft;
}

export function message(text: string, delivery?: 'steer'): Draft {
  return event('user.message', { content: [{ type: 'text', text }], ...(delivery ? { delivery } : {}) });
}

export function idles(log: StoredEvent[]): StopReason[] {
  return log.filter((e) => e.type === 'session.status_idle').map((e) => e.public.stop_reason as StopReason);
}

export const idleAfter = (count: number) => (log: StoredEvent[]) => idles(log).length >= count;
export const typesOf = (log: StoredEvent[]) => log.map((e) => e.type);
export const textsOf = (log: StoredEvent[], type: string) =>
  log.filter((e) => e.type === type).map((e) => JSON.stringify(e.public.content));
