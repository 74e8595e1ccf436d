/** Writes an answer over HTTP: as one JSON, as an event stream, or wrongly in one of the ways a script asks for. */
import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Asked, absurdAnswer, eventsOf, idOf, itemsOf, responseOf } from './answer.ts';
import type { Answer, Failed, Json, JsonObject, Misbehaviour, Reply } from './script.ts';

const defaultStallAfterEvents = 2;

export async function send(response: ServerResponse, asked: Asked, reply: Reply): Promise<void> {
  if ('fail' in reply) return sendError(response, 400, reply.fail, { code: 'rehearsal_failed' });
  if (!isMisbehaviour(reply)) return sendAnswer(response, asked, reply);
  if ('status' in reply) return sendStatus(response, reply);
  if ('absurdToolCalls' in reply) return sendAnswer(response, asked, absurdAnswer(reply.absurdToolCalls));
  if ('malformed' in reply) return sendMalformed(response, asked, reply);
  if ('breakAfterEvents' in reply) {
    await sendEvents(response, asked, reply.reply ?? { text: 'This will be cut.' }, reply.breakAfterEvents);
    response.destroy();
    return;
  }
  if ('endAfterEvents' in reply) {
    await sendEvents(response, asked, reply.reply ?? { text: 'This will be cut.' }, reply.endAfterEvents);
    response.end();
    return;
  }
  return sendStalled(response, asked, reply);
}

function isMisbehaviour(reply: Exclude<Reply, Failed>): reply is Misbehaviour {
  const names = ['stallMs', 'breakAfterEvents', 'endAfterEvents', 'status', 'malformed', 'absurdToolCalls'];
  return names.some((name) => name in reply);
}

export function sendError(
  response: ServerResponse,
  status: number,
  message: string,
  more: { code?: string | null; param?: string | null; type?: string } = {},
): void {
  const type = more.type ?? (status >= 500 ? 'server_error' : 'invalid_request_error');
  const error = { message, type, param: more.param ?? null, code: more.code ?? null };
  sendJson(response, status, { error });
}

export function sendJson(
  response: ServerResponse,
  status: number,
  body: Json,
  headers: JsonObject = {},
): void {
  const extra = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
  response.writeHead(status, { 'content-type': 'application/json', ...extra });
  response.end(JSON.stringify(body));
}

function sendStatus(response: ServerResponse, reply: Extract<Misbehaviour, { status: number }>): void {
  if (typeof reply.body === 'string') {
    response.writeHead(reply.status, { 'content-type': 'text/plain', ...reply.headers });
    response.end(reply.body);
    return;
  }
  const error = { message: `Rehearsed status ${reply.status}.`, type: 'rehearsed', param: null, code: null };
  sendJson(response, reply.status, reply.body ?? { error }, reply.headers ?? {});
}

async function sendAnswer(response: ServerResponse, asked: Asked, answer: Answer): Promise<void> {
  if (asked.body.stream !== true) {
    if (answer.latencyMs !== undefined) await sleep(answer.latencyMs);
    const status = answer.failed ? 'failed' : answer.incomplete ? 'incomplete' : 'completed';
    return sendJson(response, 200, responseOf(asked, answer, status, itemsOf(asked, answer)));
  }
  await sendEvents(response, asked, answer, Number.POSITIVE_INFINITY);
  if (answer.lingerMs !== undefined) await sleepUnlessGone(response, answer.lingerMs);
  response.end();
}

/** Sends the first `limit` events; the caller ends the response. */
async function sendEvents(
  response: ServerResponse,
  asked: Asked,
  answer: Answer,
  limit: number,
): Promise<void> {
  if (answer.latencyMs !== undefined) await sleep(answer.latencyMs);
  begin(response, asked);
  let sent = 0;
  // Without a wish for pacing everything goes out as one write, which is what a fast provider's network does.
  let batch = '';
  for (const event of eventsOf(asked, answer)) {
    if (sent >= limit) break;
    sent += 1;
    if (answer.eventDelayMs === undefined && answer.chunkBytes === undefined) {
      batch += frame(event);
      continue;
    }
    if (answer.eventDelayMs !== undefined) await sleep(answer.eventDelayMs);
    if (response.destroyed) return;
    await write(response, frame(event), answer.chunkBytes);
  }
  if (batch !== '') await write(response, batch, undefined);
}

function begin(response: ServerResponse, asked: Asked): void {
  if (response.headersSent) return;
  response.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache',
    'x-request-id': idOf(asked, 'req', 0),
    'x-ratelimit-remaining-requests': '999',
  });
  response.flushHeaders();
}

function frame(event: JsonObject): string {
  return `event: ${String(event.type)}\ndata: ${JSON.stringify(event)}\n\n`;
}

async function write(response: ServerResponse, text: string, chunkBytes: number | undefined): Promise<void> {
  const bytes = Buffer.from(text);
  const step = chunkBytes ?? bytes.length;
  for (let at = 0; at < bytes.length && !response.destroyed; at += step) {
    await written(response, bytes.subarray(at, at + step));
  }
}

/** Resolves when the bytes left, or when nobody is there to take them. */
function written(response: ServerResponse, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    response.once('close', resolve);
    response.write(bytes, () => {
      response.off('close', resolve);
      resolve();
    });
  });
}

async function sendStalled(
  response: ServerResponse,
  asked: Asked,
  reply: Extract<Misbehaviour, { stallMs: number }>,
): Promise<void> {
  const after = reply.afterEvents ?? defaultStallAfterEvents;
  const events = [...eventsOf(asked, reply.thenContinue ?? { text: 'This will not come.' })];
  if (after > 0) {
    begin(response, asked);
    await write(response, events.slice(0, after).map(frame).join(''), undefined);
  }
  await sleepUnlessGone(response, reply.stallMs);
  if (response.destroyed) return;
  if (reply.thenContinue === undefined) {
    response.destroy();
    return;
  }
  begin(response, asked);
  await write(response, events.slice(after).map(frame).join(''), undefined);
  response.end();
}

async function sleepUnlessGone(response: ServerResponse, ms: number): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  await sleep(ms, undefined, { signal: gone.signal }).catch(() => {});
}

async function sendMalformed(
  response: ServerResponse,
  asked: Asked,
  reply: Extract<Misbehaviour, { malformed: string }>,
): Promise<void> {
  const answer = reply.reply ?? { text: 'Grüße 🌍 aus der Werkstatt' };
  const frames = [...eventsOf(asked, answer)].map(frame);
  begin(response, asked);
  switch (reply.malformed) {
    case 'json':
      response.write(
        `${frames.slice(0, 3).join('')}event: response.output_text.delta\ndata: {"type":"response.out\n\n`,
      );
      response.end(frames.slice(3).join(''));
      return;
    case 'sse':
      // What a proxy in between says instead of the stream.
      response.write(frames.slice(0, 3).join(''));
      response.end('<html><body><h1>502 Bad Gateway</h1></body></html>\n\n');
      return;
    case 'truncated-utf8':
      response.end(withoutLastByteOfFirstCharacter(Buffer.from(frames.join(''))));
  }
}

/** Drops one byte in the middle of the first multi-byte character; the rest of the stream is whole. */
function withoutLastByteOfFirstCharacter(bytes: Buffer): Buffer {
  const at = bytes.findIndex((byte) => byte >= 0xc0);
  if (at < 0) return bytes;
  return Buffer.concat([bytes.subarray(0, at + 1), bytes.subarray(at + 2)]);
}
