/**
 * What the API's tests share: an app on the real SQLite store and real blobs in a directory of its own, and a stand-in
 * for the engine that appends what an engine would. Not part of the product.
 */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ApiDeps } from '../../src/api/app.ts';
import { createApi } from '../../src/api/app.ts';
import { fleetDesk } from '../../src/api/fleet-desk.ts';
import { storeChecks } from '../../src/engine/checks.ts';
import { FoldedSessions } from '../../src/engine/folded-sessions.ts';
import { createApiKey } from '../../src/guard/identity.ts';
import { outbound, outboundDefaults } from '../../src/guard/vault/oauth/outbound.ts';
import { openVault } from '../../src/guard/vault/vault.ts';
import { newId } from '../../src/protocol/ids.ts';
import type { JsonObject } from '../../src/protocol/json.ts';
import type { PreviewFrame } from '../../src/protocol/previews.ts';
import { defaultTenant } from '../../src/protocol/tenant.ts';
import type { Audience } from '../../src/session/events.ts';
import { masterKeyPath } from '../../src/store/master-key.ts';
import { openBlobs, openStore } from '../../src/store/open.ts';
import type { AppendResult, Blobs, Store } from '../../src/store/store.ts';

export type Reply = { status: number; headers: Headers; body: JsonObject };

export type TestApi = {
  directory: string;
  deps: ApiDeps;
  store: Store;
  blobs: Blobs;
  key: string;
  app: ReturnType<typeof createApi>;
  /** A request with the key; `body` is sent as JSON. */
  ask(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Reply>;
  fetch(path: string, init?: RequestInit): Promise<Response>;
  preview(frame: PreviewFrame): void;
  /** Another process's start: the same directory, a new store and app. */
  restart(): Promise<void>;
  close(): Promise<void>;
};

export async function openTestApi(change: Partial<ApiDeps> = {}): Promise<TestApi> {
  const directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-api-'));
  const listeners = new Set<(frame: PreviewFrame) => void>();
  const open = async () => {
    const store = await openStore({
      directory,
      summarizeModule: new URL('../../src/session/summary.ts', import.meta.url),
    });
    const blobs = openBlobs(directory);
    const vault = openVault({
      ...{ store, masterKeyFile: masterKeyPath(directory), mayMakeKeys: true, nowMs: Date.now },
      outbound: outbound({ ...outboundDefaults, allowPrivate: true }),
    });
    const deps = { ...testDeps(store, blobs, listeners), vault, ...change };
    return { store, blobs, deps, app: createApi(deps) };
  };
  const parts = await open();
  const { key } = await createApiKey(parts.store, { name: 'test', actor: 'test', nowMs: Date.now() });
  const api: TestApi = {
    ...parts,
    directory,
    key,
    fetch: async (where, init = {}) => {
      const headers = new Headers(init.headers);
      if (!headers.has('authorization')) headers.set('authorization', `Bearer ${key}`);
      return api.app.request(where, { ...init, headers });
    },
    async ask(method, where, body, headers = {}) {
      const init: RequestInit = { method, headers: { ...headers } };
      if (body !== undefined) {
        init.body = typeof body === 'string' ? body : JSON.stringify(body);
        init.headers = { 'content-type': 'application/json', ...headers };
      }
      const response = await api.fetch(where, init);
      const text = await response.text();
      return { status: response.status, headers: response.headers, body: JSON.parse(text) as JsonObject };
    },
    preview: (frame) => {
      for (const listener of listeners) listener(frame);
    },
    async restart() {
      await api.store.close();
      Object.assign(api, await open());
    },
    async close() {
      await api.store.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
  return api;
}

function testDeps(store: Store, blobs: Blobs, listeners: Set<(frame: PreviewFrame) => void>): ApiDeps {
  return {
    store,
    folded: new FoldedSessions(store),
    blobs,
    now: () => Date.now(),
    previews: {
      subscribe(_session, listener) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    },
    isolation: 'none',
    version: '0.0.0-test',
    pinSession: ({ agent, sessionId }) => ({
      prefix: {
        model: agent.model.id,
        effort: agent.model.effort?.type ?? null,
        instructions: agent.system ?? '',
        tools: [],
        maxOutputTokens: null,
        cacheKey: sessionId,
      },
      tools: [],
    }),
    sandbox: {
      diff: async () => ({
        ok: false,
        reason: 'no_workspace',
        message: 'This session has no workspace yet.',
      }),
      exportBundle: async () => ({
        ok: false,
        reason: 'no_workspace',
        message: 'This session has no workspace yet.',
      }),
    },
    checks: storeChecks(store),
    fleet: fleetDesk(store, async () => [], null),
    ready: async () => ({ ok: true, checks: {} }),
    doctor: async () => ({ isolation: 'none' }),
    onBug: (error) => {
      throw error;
    },
  };
}

export type Fact = {
  type: string;
  public?: JsonObject;
  private?: JsonObject;
  id?: string;
  audience?: Audience;
  thread?: string | null;
};

/** Appends as an engine would, without a fence. */
export async function record(api: TestApi, session: string, ...facts: Fact[]): Promise<AppendResult> {
  return api.store.append({
    ...defaultTenant,
    stream: session,
    events: facts.map((fact) => ({
      id: fact.id ?? newId('event'),
      type: fact.type,
      actor: 'engine:test',
      thread: fact.thread ?? null,
      turn: null,
      call: null,
      causation: null,
      audience: fact.audience ?? 'public',
      public: fact.public ?? {},
      private: fact.private ?? null,
    })),
  });
}

/** An agent, an environment and a session, made through the API. */
export async function makeSession(
  api: TestApi,
  more: JsonObject = {},
): Promise<{ id: string; thread: string; agent: string }> {
  const agent = await api.ask('POST', '/v1/agents', { name: 'Scribe', model: 'gpt-5.2-codex' });
  const environment = await api.ask('POST', '/v1/environments', { name: `room ${newId('event')}` });
  const created = await api.ask('POST', '/v1/sessions', {
    agent: agent.body.id,
    environment_id: environment.body.id,
    ...more,
  });
  if (created.status !== 200) throw new Error(`no session: ${JSON.stringify(created.body)}`);
  const id = String(created.body.id);
  const row = await api.store.stream(defaultTenant, id);
  return { id, thread: String(row?.summary?.thread_id), agent: String(agent.body.id) };
}

export function messageOf(reply: Reply): string {
  return String((reply.body.error as JsonObject | undefined)?.message);
}

export function dataOf(reply: Reply): JsonObject[] {
  return reply.body.data as JsonObject[];
}

export const say = (text: string): JsonObject => ({
  type: 'user.message',
  content: [{ type: 'text', text }],
});
