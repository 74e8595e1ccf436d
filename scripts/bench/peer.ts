/**
 * The model peer of the bench: the rehearsal in a process of its own. Its script plays bash-loop with settings from the
 * last message (`{"steps":"100","command":"true"}`), so that one peer serves every measurement. `latencyMs` is what the
 * model thinks before each answer.
 *
 * Tells its parent over IPC: where it listens, each final answer as it is given, and on request all records, with the
 * times to the microsecond (the rehearsal's own are whole milliseconds of the wall clock).
 */
import { subscribe } from 'node:diagnostics_channel';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { RehearsalOptions } from '../../rehearsal/peer.ts';
import type { Reply, Script, Turn } from '../../rehearsal/script.ts';
import anyShellLoop from './any-shell-loop.ts';
import { nowMs } from './clock.ts';
import { load } from './code-under-test.ts';

export type PeerRecord = {
  /** When its last byte had come. */
  receivedAtMs: number;
  /** Rehearsal's own: from there to the end of the response. */
  serviceMs: number;
  /** When the response's last bytes were handed to the kernel. */
  answeredAtMs: number;
  bodyBytes: number;
  problem: string | null;
};

export type FromPeer =
  | { type: 'ready'; url: string }
  | { type: 'done'; text: string }
  | { type: 'records'; records: PeerRecord[]; failures: string[] };

const { startRehearsal } = await load<typeof import('../../rehearsal/peer.ts')>('rehearsal/peer');
const { default: bashLoop } = await load<{ default: Script }>('rehearsal/scripts/bash-loop');

const tell = (message: FromPeer): void => void process.send?.(message);

/** The settings are the JSON in the last message, whatever an agent wraps around it. */
function settingsIn(text: string): Record<string, string> {
  const json = /\{[^{}]*\}/.exec(text)?.[0];
  return json === undefined ? {} : (JSON.parse(json) as Record<string, string>);
}

async function script(turn: Turn): Promise<Reply> {
  const asked = { ...turn, args: settingsIn(turn.userText) };
  const reply = await (asked.args.any === undefined ? bashLoop(asked) : anyShellLoop(asked));
  if ('text' in reply && reply.text !== undefined) tell({ type: 'done', text: reply.text });
  return asked.args.latencyMs === undefined ? reply : { ...reply, latencyMs: Number(asked.args.latencyMs) };
}

const closings: { closedAtMs: number; answeredAtMs: number }[] = [];
subscribe('http.server.request.start', (message) => {
  const { request, response } = message as { request: IncomingMessage; response: ServerResponse };
  if (request.method !== 'POST' || request.url?.endsWith('/responses') !== true) return;
  const times = { closedAtMs: 0, answeredAtMs: 0 };
  const write = response.write.bind(response) as (...args: unknown[]) => boolean;
  response.write = ((...args: unknown[]) => {
    const result = write(...args);
    times.answeredAtMs = nowMs();
    return result;
  }) as typeof response.write;
  // The same event in which the rehearsal takes its service time.
  response.once('close', () => {
    times.closedAtMs = nowMs();
  });
  closings.push(times);
});

const options: RehearsalOptions = { script, keepBodies: 1, apiKey: process.env.REHEARSAL_API_KEY ?? '' };
const rehearsal = await startRehearsal(options);

process.on('message', () => {
  const records = rehearsal.requests.map((request, at): PeerRecord => {
    const times = closings[at] ?? { closedAtMs: 0, answeredAtMs: 0 };
    const serviceMs = request.serviceMs ?? 0;
    return {
      serviceMs,
      receivedAtMs: times.closedAtMs - serviceMs,
      answeredAtMs: times.answeredAtMs,
      bodyBytes: request.bodyBytes,
      problem: request.problem,
    };
  });
  tell({ type: 'records', records, failures: rehearsal.failures });
});
process.once('disconnect', () => process.exit(0));
tell({ type: 'ready', url: rehearsal.url });
