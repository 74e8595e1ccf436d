/** Checkpoints over HTTP; the engine's words are written here as it writes them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Fact, TestApi } from '../../../../test/sdk/test-api.ts';
import { dataOf, makeSession, messageOf, openTestApi, record, say } from '../../../../test/sdk/test-api.ts';
import { FoldedSessions } from '../../../engine/folded-sessions.ts';
import { newId } from '../../../protocol/ids.ts';
import type { JsonObject } from '../../../protocol/json.ts';
import { defaultTenant } from '../../../protocol/tenant.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openTestApi();
});
afterAll(() => api.close());

type Lived = { id: string; messages: string[]; idles: string[]; checkpoints: string[] };

/** A turn with a checkpoint at its end. */
function turn(message: string, idle: string, checkpoint: string): Fact[] {
  const ends = { stop_reason: { type: 'end_turn' }, stop_details: null };
  const at = { checkpoint_id: checkpoint, at_event_id: idle, reason: 'turn_end' };
  const cost = { driver: 'btrfs', size_bytes: 7, files: 2, took_ms: 3, made_at: '2026-01-01T00:00:00.000Z' };
  return [
    { type: 'turn.started', public: { turn_id: newId('turn'), event_ids: [message] } },
    { type: 'sandbox.started', public: { host: 'host-a', disk: { driver: 'btrfs' } } },
    { type: 'turn.ended', public: { turn_id: '', stop_reason: { type: 'end_turn' }, interrupted: false } },
    { type: 'session.status_idle', id: idle, public: ends },
    { type: 'checkpoint.intent', audience: 'internal', public: at },
    { type: 'checkpoint.created', audience: 'operator', public: { ...at, ...cost } },
  ];
}

async function lived(turns = 2, more: JsonObject = {}): Promise<Lived> {
  const { id } = await makeSession(api, more);
  const made: Lived = { id, messages: [], idles: [], checkpoints: [] };
  for (let n = 0; n < turns; n++) {
    const sent = await api.ask('POST', `/v1/sessions/${id}/events`, { events: [say(`message ${n}`)] });
    const message = String(dataOf(sent)[0]?.id);
    const [idle, checkpoint] = [newId('event'), newId('checkpoint')];
    await record(api, id, ...turn(message, idle, checkpoint));
    made.messages.push(message);
    made.idles.push(idle);
    made.checkpoints.push(checkpoint);
  }
  return made;
}

const list = async (id: string) => dataOf(await api.ask('GET', `/v1/sessions/${id}/checkpoints`));
const typesOf = async (id: string) =>
  (await api.store.read(id, 0, 1_000)).map((event: { type: string }) => event.type);

describe('checkpoints', () => {
  it('are listed with the event that they belong to, and shown one by one', async () => {
    const { id, idles, checkpoints } = await lived();
    expect(await list(id)).toMatchObject([
      { id: checkpoints[0], at_event_id: idles[0], status: 'ready', is_on_line: true, size_bytes: 7 },
      { id: checkpoints[1], at_event_id: idles[1], status: 'ready', reason: 'turn_end' },
    ]);
    const one = await api.ask('GET', `/v1/sessions/${id}/checkpoints/${checkpoints[1]}`);
    expect(one.body).toMatchObject({ type: 'checkpoint', driver: 'btrfs', took_ms: 3 });
    expect((await api.ask('GET', `/v1/sessions/${id}/checkpoints/ckpt_x`)).status).toBe(404);
  });

  it('that are asked for wait in the log for the engine; the same request makes no second one', async () => {
    const { id } = await lived(1);
    const ask = () =>
      api.ask('POST', `/v1/sessions/${id}/checkpoints`, undefined, {
        'idempotency-key': `keep ${id}`.replace(' ', '-'),
      });
    const first = await ask();
    expect(first.body).toMatchObject({ status: 'pending', reason: 'requested', session_id: id });
    expect((await ask()).body).toEqual(first.body);
    expect((await list(id)).map((one) => one.status)).toEqual(['ready', 'pending']);
    expect((await api.store.stream(defaultTenant, id))?.wakeAt).toEqual(expect.any(Number));
  });

  it('that failed say why', async () => {
    const { id } = await lived(1);
    const { body } = await api.ask('POST', `/v1/sessions/${id}/checkpoints`);
    const at = { checkpoint_id: body.id as string, at_event_id: 'x', reason: 'requested' };
    const failed = { ...at, message: 'the disk is full' };
    await record(
      api,
      id,
      { type: 'checkpoint.intent', public: at },
      { type: 'checkpoint.failed', public: failed },
    );
    const shown = await api.ask('GET', `/v1/sessions/${id}/checkpoints/${body.id}`);
    expect(shown.body).toMatchObject({ status: 'failed', message: 'the disk is full' });
  });

  it('are refused where there is nothing to keep', async () => {
    const { id } = await makeSession(api);
    const refused = await api.ask('POST', `/v1/sessions/${id}/checkpoints`);
    expect([refused.status, messageOf(refused)]).toEqual([400, expect.stringContaining('no workspace yet')]);
  });

  it('are deleted from the log at once and from the host by an errand', async () => {
    const { id, checkpoints } = await lived();
    const gone = await api.ask('DELETE', `/v1/sessions/${id}/checkpoints/${checkpoints[0]}`);
    expect(gone.body).toEqual({ id: checkpoints[0], type: 'checkpoint_deleted' });
    expect((await list(id)).map((one) => one.id)).toEqual([checkpoints[1]]);
    expect(await api.store.pendingOutbox(100)).toContainEqual(
      expect.objectContaining({
        kind: 'checkpoint.remove',
        body: { session: id, checkpoint: checkpoints[0], host: 'host-a' },
      }),
    );
    expect((await api.ask('DELETE', `/v1/sessions/${id}/checkpoints/${checkpoints[0]}`)).status).toBe(404);
  });
});

describe('a rollback', () => {
  it('is asked for in the log, once, and not while a turn runs or another is under way', async () => {
    const { id, checkpoints } = await lived();
    const back = () => api.ask('POST', `/v1/sessions/${id}/rollback`, { checkpoint_id: checkpoints[0] });
    expect((await back()).body).toMatchObject({ type: 'session_rollback', status: 'pending' });
    const again = await back();
    expect([again.status, messageOf(again)]).toEqual([409, expect.stringContaining('being put back')]);
    await record(api, id, {
      type: 'session.rolled_back',
      public: { checkpoint_id: checkpoints[0] ?? '', at_event_id: 'x' },
    });
    expect((await list(id)).map((one) => one.is_on_line)).toEqual([true, false]);
    const left = await api.ask('POST', `/v1/sessions/${id}/rollback`, { checkpoint_id: checkpoints[1] });
    expect([left.status, messageOf(left)]).toEqual([409, expect.stringContaining('Fork from it')]);
    await api.ask('POST', `/v1/sessions/${id}/events`, { events: [say('go on')] });
    const busy = await back();
    expect([busy.status, messageOf(busy)]).toEqual([400, expect.stringContaining('middle of a turn')]);
  });
});

describe('a fork', () => {
  it('is a session of its own with the conversation up to there, and nothing spent', async () => {
    const { id, idles, checkpoints, messages } = await lived(2, { title: 'First', metadata: { a: '1' } });
    const asked = { event_id: idles[0] ?? '', title: 'Other', initial_events: [say('another way')] };
    const { status, body } = await api.ask('POST', `/v1/sessions/${id}/fork`, asked);
    expect(status).toBe(200);
    expect(body).toMatchObject({
      title: 'Other',
      metadata: { a: '1' },
      status: 'running',
      forked_from: { session_id: id, event_id: idles[0], checkpoint_id: checkpoints[0] },
    });
    const events = dataOf(await api.ask('GET', `/v1/sessions/${body.id}/events`));
    const ids = events.map((event) => event.id);
    expect(ids).toContain(messages[0]);
    expect(ids).not.toContain(messages[1]);
    expect(JSON.stringify(events)).toContain('another way');
    expect(await list(String(body.id))).toEqual([]);
  });

  it('outlives its parent, and reads on when that is erased', async () => {
    const { id, checkpoints } = await lived(1);
    const { body } = await api.ask('POST', `/v1/sessions/${id}/fork`, {
      checkpoint_id: checkpoints[0] ?? '',
    });
    expect((await api.ask('DELETE', `/v1/sessions/${id}`)).status).toBe(200);
    const events = dataOf(await api.ask('GET', `/v1/sessions/${body.id}/events`));
    expect(JSON.stringify(events)).toContain('message 0');
  });

  it('asked for twice with one key is made once', async () => {
    const { id, checkpoints } = await lived(1);
    const fork = (checkpoint_id: string) =>
      api.ask('POST', `/v1/sessions/${id}/fork`, { checkpoint_id }, { 'idempotency-key': `fork-${id}` });
    const first = await fork(checkpoints[0] ?? '');
    expect((await fork(checkpoints[0] ?? '')).body).toEqual(first.body);
    expect((await fork('ckpt_other')).status).toBe(409);
    expect((await typesOf(String(first.body.id))).filter((type) => type === 'session.forked')).toHaveLength(
      1,
    );
  });

  it('at an event without a checkpoint is refused, with the nearest before and after it', async () => {
    const { id, idles, checkpoints, messages } = await lived();
    const fork = (body: JsonObject) => api.ask('POST', `/v1/sessions/${id}/fork`, body);
    const between = await fork({ event_id: messages[1] ?? '' });
    expect(between.status).toBe(400);
    for (const named of [...checkpoints, ...idles]) expect(messageOf(between)).toContain(named);
    expect((await fork({ event_id: 'sevt_x' })).status).toBe(404);
    expect((await fork({ checkpoint_id: 'ckpt_x' })).status).toBe(404);
    expect((await fork({})).status).toBe(400);
    expect((await fork({ checkpoint_id: 'a', event_id: 'b' })).status).toBe(400);
  });

  it('of a session that has had no workspace yet needs no checkpoint, and has none to wait for', async () => {
    const { id } = await makeSession(api, { initial_events: [say('only words')] });
    const [idle, asking] = [newId('event'), newId('event')];
    const stop = (type: string) => ({ stop_reason: { type, event_ids: [] }, stop_details: null });
    await record(
      api,
      id,
      { type: 'session.status_idle', id: asking, public: stop('requires_action') },
      { type: 'session.status_idle', id: idle, public: stop('end_turn') },
    );
    const fork = (event_id: string) => api.ask('POST', `/v1/sessions/${id}/fork`, { event_id });
    const { body } = await fork(idle);
    expect(body.forked_from).toEqual({ session_id: id, event_id: idle, checkpoint_id: null });
    const state = await new FoldedSessions(api.store).fold(String(body.id));
    expect(state.checkpoints).toMatchObject({ restoring: null, isTouched: false });
    expect((await fork(asking)).status).toBe(400);
    await record(api, id, { type: 'sandbox.started' });
    const later = newId('event');
    await record(api, id, { type: 'session.status_idle', id: later, public: stop('end_turn') });
    expect((await fork(later)).status).toBe(400);
    expect((await fork(idle)).status).toBe(200);
  });

  it('has files of its own for what was mounted in its parent', async () => {
    const form = new FormData();
    form.append('file', new File(['hello'], 'hello.txt'));
    const uploaded = await (await api.fetch('/v1/files', { method: 'POST', body: form })).json();
    const file_id = (uploaded as { id: string }).id;
    const { id, checkpoints } = await lived(1, { resources: [{ type: 'file', file_id }] });
    const { body } = await api.ask('POST', `/v1/sessions/${id}/fork`, {
      checkpoint_id: checkpoints[0] ?? '',
    });
    await api.ask('DELETE', `/v1/sessions/${id}`);
    const [mounted] = body.resources as JsonObject[];
    const content = await api.fetch(`/v1/files/${mounted?.file_id}/content`);
    expect(await content.text()).toBe('hello');
  });
});

describe('an environment', () => {
  it('says whether turns end with a checkpoint, and an update that does not speak of it keeps it', async () => {
    const config = { type: 'cloud', checkpoints: 'off' };
    const { body } = await api.ask('POST', '/v1/environments', { name: 'no checkpoints', config });
    expect(body.config).toMatchObject({ checkpoints: 'off' });
    const more = { config: { type: 'cloud', packages: { pip: [] } } };
    const updated = await api.ask('POST', `/v1/environments/${body.id}`, more);
    expect(updated.body.config).toMatchObject({ checkpoints: 'off' });
    const odd = await api.ask('POST', `/v1/environments/${body.id}`, {
      config: { type: 'cloud', checkpoints: 'sometimes' },
    });
    expect([odd.status, messageOf(odd)]).toEqual([400, expect.stringContaining('checkpoints')]);
  });
});
