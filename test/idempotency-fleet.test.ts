// One Idempotency-Key, 64 times at once, over four api processes on one real Postgres, one of which is killed in the middle.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { FleetProcesses, fleetKey, type Running } from './peers/fleet-processes.ts';

const patience = { timeout: 60_000 };
const requests = 64;

type Answer = { status: number; body: { id?: string; data?: { id: string; type: string }[] } };

let fleet: FleetProcesses;
let living: string[];

beforeAll(async () => {
  // No engine: nobody asks the model.
  fleet = await FleetProcesses.start('http://127.0.0.1:9/v1');
  const apis = [await fleet.serve('api'), ...(await Promise.all([fleet.serve('api'), fleet.serve('api')]))];
  living = apis.map(({ line }) => line.url ?? '');
}, 60_000);

afterAll(() => fleet?.end(), 30_000);

async function ask(
  url: string,
  method: string,
  place: string,
  body?: object,
  key?: string,
): Promise<Answer | null> {
  const headers: Record<string, string> = { authorization: `Bearer ${fleetKey}` };
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (key !== undefined) headers['idempotency-key'] = key;
  try {
    const response = await fetch(url + place, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
    });
    return { status: response.status, body: (await response.json()) as Answer['body'] };
  } catch {
    return null;
  }
}

/** What a living api says; its refusal is a defect of the test. */
async function told(method: string, place: string, body?: object): Promise<Answer['body']> {
  const answer = await ask(living[0] ?? '', method, place, body);
  expect(answer).toMatchObject({ status: 200 });
  return answer?.body ?? {};
}

/** A server that dies at its third answer: done by then, perhaps, and not said. */
async function doomed(): Promise<Running> {
  return fleet.serve('api', [], { SCRIPTORIUM_FAILPOINTS: 'api.before-reply=kill@3' });
}

/** All at once over all servers; who gets no answer asks a living one again with the same key, as a client does. */
async function storm(
  place: string,
  body: object,
  key: string,
): Promise<{ answers: Answer[]; unheard: number }> {
  const victim = await doomed();
  const urls = [victim.line.url ?? '', ...living];
  let unheard = 0;
  const answers = await Promise.all(
    Array.from({ length: requests }, async (_, n) => {
      let answer = await ask(urls[n % urls.length] ?? '', 'POST', place, body, key);
      if (answer === null) unheard += 1;
      for (let tries = 0; answer === null && tries < 5; tries++)
        answer = await ask(living[n % living.length] ?? '', 'POST', place, body, key);
      if (answer === null) throw new Error('a living server did not answer');
      return answer;
    }),
  );
  await victim.ended;
  expect(victim.child.signalCode).toBe('SIGKILL');
  return { answers, unheard };
}

async function session(): Promise<{ agent: string; environment: string; id: string }> {
  const agent = (await told('POST', '/v1/agents', { name: 'a', model: 'rehearsal-1' })).id ?? '';
  const name = `e-${process.hrtime.bigint()}`;
  const environment = (await told('POST', '/v1/environments', { name })).id ?? '';
  const made = await told('POST', '/v1/sessions', { agent, environment_id: environment });
  return { agent, environment, id: made.id ?? '' };
}

const say = (text: string) => ({ events: [{ type: 'user.message', content: [{ type: 'text', text }] }] });

it(
  'a message sent 64 times at once to 4 servers, one killed meanwhile, is in the log once',
  patience,
  async () => {
    const { id } = await session();
    const place = `/v1/sessions/${id}/events`;
    const { answers, unheard } = await storm(place, say('once'), 'storm-message');
    expect(unheard).toBeGreaterThan(0);
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    expect(new Set(answers.map(({ body }) => JSON.stringify(body.data?.map((one) => one.id)))).size).toBe(1);
    const messages = (await told('GET', `${place}?limit=100`)).data?.filter(
      ({ type }) => type === 'user.message',
    );
    expect(messages?.map((one) => one.id)).toEqual(answers[0]?.body.data?.map((one) => one.id));
    const other = await Promise.all(
      living.map((url) => ask(url, 'POST', place, say('twice'), 'storm-message')),
    );
    expect(other.map((answer) => answer?.status)).toEqual([409, 409, 409]);
  },
);

it(
  'a session asked for 64 times at once of 4 servers, one killed meanwhile, is one session',
  patience,
  async () => {
    const { agent, environment } = await session();
    const before = (await told('GET', '/v1/sessions?limit=100')).data?.length ?? 0;
    const body = { agent, environment_id: environment, initial_events: say('go').events };
    const { answers, unheard } = await storm('/v1/sessions', body, 'storm-session');
    expect(unheard).toBeGreaterThan(0);
    expect(new Set(answers.map((answer) => `${answer.status} ${answer.body.id}`))).toEqual(
      new Set([`200 ${answers[0]?.body.id}`]),
    );
    expect((await told('GET', '/v1/sessions?limit=100')).data).toHaveLength(before + 1);
    const other = { ...body, title: 'another' };
    const refused = await Promise.all(
      living.map((url) => ask(url, 'POST', '/v1/sessions', other, 'storm-session')),
    );
    expect(refused.map((answer) => answer?.status)).toEqual([409, 409, 409]);
  },
);
