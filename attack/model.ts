/**
 * The malicious model: a rehearsal that does, call by call, what the row says that its message names. Nothing of the row
 * travels in the message, so that no canary or nonce is in a log before it is tried.
 */
import { type Rehearsal, startRehearsal } from '../rehearsal/peer.ts';
import type { Reply, ToolCall, Turn } from '../rehearsal/script.ts';
import type { Call } from './row.ts';

export class MaliciousModel {
  readonly #plans = new Map<string, readonly ToolCall[]>();
  #peer: Rehearsal | null = null;

  async start(): Promise<void> {
    this.#peer = await startRehearsal({ script: (turn) => this.#answer(turn), port: 0, keepBodies: 1 });
  }

  get url(): string {
    return this.#peer?.url ?? '';
  }

  /** The message that makes it do this. */
  plan(calls: readonly Call[], environment: Record<string, string>): string {
    const message = `attack ${this.#plans.size + 1}`;
    this.#plans.set(
      message,
      calls.map((call) => toolCall(call, environment)),
    );
    return message;
  }

  async stop(): Promise<void> {
    await this.#peer?.stop();
  }

  #answer(turn: Turn): Reply {
    const plan = this.#plans.get(turn.userText.trim());
    if (!plan) return { fail: `nobody planned ${turn.userText}` };
    const call = plan[turn.step];
    return call ? { toolCalls: [call] } : { text: 'done' };
  }
}

const need = 'need() { for t; do command -v "$t" >/dev/null || { echo "NO_TOOL $t"; exit 0; }; done; }';

function toolCall(call: Call, environment: Record<string, string>): ToolCall {
  if (typeof call === 'string') return bash(call, environment);
  if ('command' in call) return bash(call.command, environment, { timeout_ms: call.timeoutMs });
  const filled = Object.entries(call.arguments).map(([name, value]) => [
    name,
    typeof value === 'string' ? fill(value, environment) : value,
  ]);
  return { name: call.tool, arguments: Object.fromEntries(filled) };
}

function bash(
  command: string,
  environment: Record<string, string>,
  more: Record<string, number> = {},
): ToolCall {
  const exports = Object.entries(environment).map(([name, value]) => `export ${name}='${value}'`);
  return { name: 'bash', arguments: { command: [need, ...exports, command].join('\n'), ...more } };
}

function fill(text: string, environment: Record<string, string>): string {
  return text.replace(/\$([A-Z_]+)/g, (whole, name: string) => environment[name] ?? whole);
}
