/**
 * What the model wants, step by step: effects that the witness counts, reads, custom tools, and writes that ask first.
 * A function of the message and the step alone, so that a question asked again after a crash gets the same answer.
 *
 * Settings: `control` is a file; while it is there, its JSON names the weather at the provider.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Answer, Reply, ToolCall, Turn } from '../rehearsal/script.ts';

/** Where the sandboxes find the witness. */
export const witnessPipe = '/mnt/witness/effects';
const messageForm = /^task ([\w-]+) steps (\d+)$/;

export function messageOf(task: string, steps: number): string {
  return `task ${task} steps ${steps}`;
}

export default function chaos(turn: Turn): Reply {
  const asked = messageForm.exec(turn.userText);
  if (!asked) return { text: 'I only do tasks.' };
  const [, task = '', steps = '0'] = asked;
  const answer = turn.step < Number(steps) ? stepOf(task, turn.step) : { text: `Task ${task} is done.` };
  return underWeather(turn, answer);
}

function stepOf(task: string, step: number): Answer {
  const draw = draws(`${task}.${step}`);
  const kind = draw(0) % 100;
  const text = { text: `Step ${step} of ${task}.` };
  if (kind < 55) return { ...text, toolCalls: [effect(`${task}.${step}`, draw(1))] };
  if (kind < 65)
    return { toolCalls: [effect(`${task}.${step}.a`, draw(1)), effect(`${task}.${step}.b`, draw(2))] };
  if (kind < 77) return { toolCalls: [{ name: 'glob', arguments: { pattern: '*' } }] };
  if (kind < 88)
    return { ...text, toolCalls: [{ name: 'ask_clerk', arguments: { question: `${task}.${step}` } }] };
  const file = { file_path: `/workspace/${task}.${step}`, content: `${task}.${step}\n` };
  return { ...text, toolCalls: [{ name: 'write', arguments: file }] };
}

/** Some are over at once, some can be caught in the middle. */
function effect(nonce: string, draw: number): ToolCall {
  const pause = draw % 3 === 0 ? `sleep 0.${1 + (draw % 7)}; ` : '';
  return {
    name: 'bash',
    arguments: { command: `nonce=${nonce}; ${pause}echo "$nonce" >${witnessPipe}; echo done` },
  };
}

function draws(seed: string): (index: number) => number {
  const bytes = createHash('sha256').update(seed).digest();
  return (index) => bytes.readUInt16LE(index * 2);
}

function underWeather(turn: Turn, answer: Answer): Reply {
  switch (weatherNow(turn.args.control)) {
    case 'rate_limit':
      return { status: 429, headers: { 'retry-after': '0' } };
    case 'overloaded':
      return { status: 503 };
    case 'broken_stream':
      return { malformed: 'json', reply: answer };
    case 'cut_stream':
      return { breakAfterEvents: 4, reply: answer };
    case 'stall':
      return { stallMs: 700, thenContinue: answer };
    default:
      return answer;
  }
}

function weatherNow(control: string | undefined): string | null {
  if (control === undefined) return null;
  try {
    const { weather, untilMs } = JSON.parse(readFileSync(control, 'utf8')) as {
      weather: string;
      untilMs: number;
    };
    return Date.now() < untilMs ? weather : null;
  } catch {
    return null;
  }
}
