/** Makes the demo's session with plain calls of the public API: what any client in any language would send. */
import { openAsBlob } from 'node:fs';
import type { Snapshot } from '../../src/cli/repository/snapshot.ts';
import type { Client } from '../../src/cli/server/client.ts';

type Made = { id: string };

export async function createSession(client: Client, snapshot: Snapshot, task: string): Promise<Made> {
  const form = new FormData();
  form.append('file', await openAsBlob(snapshot.bundlePath), 'repository.bundle');
  const file = await client.post<Made>('/v1/files', { form });
  const agent = await client.post<Made>('/v1/agents', {
    json: {
      name: 'demo',
      model: 'rehearsal-1',
      tools: [{ type: 'agent_toolset_20260401', configs: offline }],
    },
  });
  const environment = await client.post<Made>('/v1/environments', { json: { name: 'demo' } });
  const { branch, head, snapshotRef } = snapshot;
  return client.post<Made>('/v1/sessions', {
    json: {
      agent: agent.id,
      environment_id: environment.id,
      title: task,
      resources: [{ type: 'repository', file_id: file.id, branch, head, snapshot_ref: snapshotRef }],
      initial_events: [{ type: 'user.message', content: [{ type: 'text', text: task }] }],
    },
  });
}

/** Sandboxes have no network in this version. */
const offline = ['web_fetch', 'web_search'].map((name) => ({ name, enabled: false }));
