/**
 * `scriptorium run`: one task, from the words to the diff. Takes the repository, finds or starts a server, makes the
 * session and stays with it.
 */
import { createHash, randomUUID } from 'node:crypto';
import { openAsBlob } from 'node:fs';
import path from 'node:path';
import type { JsonObject } from '../protocol/json.ts';
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import type { Snapshot } from './repository/snapshot.ts';
import { takeSnapshot } from './repository/snapshot.ts';
import { conclude } from './result.ts';
import type { Client } from './server/client.ts';
import { ApiRefusal } from './server/client.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import type { SessionObject } from './server/sessions.ts';
import { duration } from './terminal/figures.ts';
import type { Terminal } from './terminal/terminal.ts';
import { oneLine, safeText } from './terminal/text.ts';
import { watch } from './watch.ts';

export type RunOptions = ServerOptions & {
  repo?: string;
  model?: string;
  effort?: string;
  ask?: boolean;
  detach?: boolean;
  json?: boolean;
  environment?: string;
  allowHost?: string[];
  allowPackages?: boolean;
  askHosts?: boolean;
  vault?: string[];
};

const DEFAULT_MODEL = 'gpt-6.1-sol';
const efforts = ['low', 'medium', 'high', 'xhigh', 'max'];

export async function run(task: string, options: RunOptions, terminal: Terminal): Promise<ExitCode> {
  const startMs = Date.now();
  if (task.trim() === '') throw new Refused('the task is empty', { exitCode: exitCodes.usage });
  if (options.effort !== undefined && !efforts.includes(options.effort))
    throw new Refused(`--effort is one of ${efforts.join(', ')}`, { exitCode: exitCodes.usage });
  checkNetwork(options);
  const json = options.json === true;
  const snapshot = options.repo === undefined ? null : await snapshotOf(options.repo, terminal, json);
  try {
    const client = await connect({ ...options, mayStart: true, terminal });
    const session = await createSession(client, task, snapshot, options);
    if (json) terminal.out(JSON.stringify({ type: 'cli.session', session_id: session.id, url: client.url }));
    else announce(session, client, snapshot, terminal);
    if (options.detach === true) {
      if (!json) terminal.err(`come back with: scriptorium attach ${session.id}`);
      return exitCodes.done;
    }
    const watched = await watch(client, session.id, { terminal, json, after: 0 });
    return await conclude(client, session.id, watched, { terminal, json, tookMs: Date.now() - startMs });
  } finally {
    await snapshot?.dispose();
  }
}

async function snapshotOf(repo: string, terminal: Terminal, json: boolean): Promise<Snapshot> {
  const startMs = Date.now();
  const taken = await takeSnapshot(repo);
  if (!taken.ok) throw new Refused(taken.message);
  const { snapshot } = taken;
  if (!json) {
    const where =
      snapshot.head === null
        ? 'no commit yet'
        : `${snapshot.branch ?? 'detached'} at ${snapshot.head.slice(0, 10)}`;
    const dirty =
      snapshot.snapshotCommit === snapshot.head ? 'nothing uncommitted' : 'with your uncommitted work';
    const line = `${snapshot.root}: ${where}, ${dirty} (${duration(Date.now() - startMs)})`;
    terminal.err(terminal.paint('dim', safeText(line)));
    for (const notice of snapshot.notices) terminal.err(terminal.paint('yellow', safeText(notice)));
  }
  return snapshot;
}

function announce(
  session: SessionObject,
  client: Client,
  snapshot: Snapshot | null,
  terminal: Terminal,
): void {
  terminal.err(
    `${terminal.paint('bold', `session ${session.id}`)} on ${client.url}, ${session.agent.model.id}`,
  );
  if (snapshot === null)
    terminal.err(
      terminal.paint('dim', 'no repository given (--repo .); the agent starts in an empty workspace'),
    );
}

async function createSession(
  client: Client,
  task: string,
  snapshot: Snapshot | null,
  options: RunOptions,
): Promise<SessionObject> {
  const resources: JsonObject[] = [];
  if (snapshot !== null) {
    const file = await uploadBundle(client, snapshot);
    resources.push({
      type: 'repository',
      file_id: file.id,
      branch: shownBranch(snapshot),
      head: snapshot.head,
      snapshot_ref: snapshot.snapshotRef,
    });
  }
  const create = async (salt: string) => {
    const agent = await keyed(client, '/v1/agents', agentParams(options), salt);
    const environment_id = options.environment ?? (await ownEnvironment(client, options, salt)).id;
    const json: JsonObject = {
      agent: agent.id,
      environment_id,
      ...(options.vault?.length ? { vault_ids: options.vault } : {}),
      title: oneLine(task, 100),
      metadata: {
        source: 'cli',
        ...(snapshot ? { repository: path.basename(snapshot.root).slice(0, 200) } : {}),
      },
      resources,
      initial_events: [{ type: 'user.message', content: [{ type: 'text', text: task }] }],
    };
    return client.post<SessionObject>('/v1/sessions', { json });
  };
  try {
    return await create('');
  } catch (error) {
    // Somebody archived or deleted what an earlier run made under this key: a key of our own makes it anew.
    if (!(error instanceof ApiRefusal) || ![400, 404, 409].includes(error.status)) throw error;
    return create(`-${randomUUID().slice(0, 8)}`).catch(() => Promise.reject(error));
  }
}

/** The API takes names of visible ASCII; under any other name the agent works on a detached HEAD. */
function shownBranch({ branch }: Snapshot): string | null {
  return branch !== null && /^[\x21-\x7e]{1,255}$/.test(branch) ? branch : null;
}

async function uploadBundle(client: Client, snapshot: Snapshot): Promise<{ id: string }> {
  const form = new FormData();
  form.append('file', await openAsBlob(snapshot.bundlePath), 'repository.bundle');
  return client.post<{ id: string }>('/v1/files', { form });
}

/** The same configuration gives the same agent and environment, run after run: the request's key is its content. */
function keyed(client: Client, collection: string, json: JsonObject, salt: string): Promise<{ id: string }> {
  const hash = createHash('sha256').update(JSON.stringify(json)).digest('hex').slice(0, 32);
  return client.post<{ id: string }>(collection, { json, idempotencyKey: `cli-${hash}${salt}` });
}

function agentParams(options: RunOptions): JsonObject {
  const id = options.model ?? (process.env.SCRIPTORIUM_MODEL || DEFAULT_MODEL);
  const asks = ['bash', 'write', 'edit', 'apply_patch'].map((name) => ({
    name,
    permission_policy: { type: 'always_ask' },
  }));
  const toolset: JsonObject = {
    type: 'agent_toolset_20260401',
    configs: [
      ...(options.ask === true ? asks : []),
      { name: 'web_fetch', enabled: false },
      { name: 'web_search', enabled: false },
    ],
  };
  const model: JsonObject = { id, ...(options.effort === undefined ? {} : { effort: options.effort }) };
  return { name: 'scriptorium run', model, tools: [toolset] };
}

/** Default deny: what the options do not name is not reached. */
function ownEnvironment(client: Client, options: RunOptions, salt: string): Promise<{ id: string }> {
  const networking: JsonObject = {
    type: 'limited',
    allowed_hosts: options.allowHost ?? [],
    allow_package_managers: options.allowPackages === true,
    unknown_hosts: options.askHosts === true ? 'ask' : 'deny',
  };
  const hash = createHash('sha256').update(JSON.stringify(networking)).digest('hex').slice(0, 8);
  const name = `scriptorium-run-${hash}${salt}`;
  return keyed(client, '/v1/environments', { name, config: { type: 'cloud', networking } }, salt);
}

function checkNetwork({ environment, allowHost, allowPackages, askHosts }: RunOptions): void {
  if (environment === undefined || !(allowHost?.length || allowPackages || askHosts)) return;
  throw new Refused(
    '--environment has rules of its own: leave --allow-host, --allow-packages and --ask-hosts out',
    {
      exitCode: exitCodes.usage,
    },
  );
}
