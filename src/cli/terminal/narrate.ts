/**
 * Tells in lines what a session does: what the agent says, each tool call with a summary, its ending and duration,
 * and what it costs. Every text of an agent goes through `safeText` here.
 */
import type { JsonObject } from '../../protocol/json.ts';
import type { Followed, SessionEvent } from '../server/follow.ts';
import { duration, money, tokens } from './figures.ts';
import type { Terminal } from './terminal.ts';
import { oneLine, safeText } from './text.ts';

type Running = { name: string; summary: string; sinceMs: number; asked: boolean };

export type Totals = {
  inputTokens: number;
  outputTokens: number;
  costMicros: number | null;
  toolCalls: number;
};

const SPINNER = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const TICK_MS = 100;
const OUTPUT_LINES = 3;

export class Narrator {
  readonly #terminal: Terminal;
  readonly #startMs = Date.now();
  readonly #running = new Map<string, Running>();
  readonly #totals: Totals = { inputTokens: 0, outputTokens: 0, costMicros: 0, toolCalls: 0 };
  #activity: string | null = null;
  #activitySinceMs = Date.now();
  #preview = '';
  #ticks = 0;
  #isHeld = false;
  readonly #timer: NodeJS.Timeout | null;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
    this.#timer = terminal.isPlain ? null : setInterval(() => this.#draw(), TICK_MS);
    this.#timer?.unref();
  }

  get totals(): Totals {
    return this.#totals;
  }

  /** While a question stands on the last line, nothing is drawn over it. */
  hold(isHeld: boolean): void {
    this.#isHeld = isHeld;
    this.#terminal.status('');
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#activity = null;
    this.#running.clear();
    this.#terminal.status('');
  }

  show(item: Followed): void {
    if (item.kind === 'event') this.#event(item.event);
    else if (item.kind === 'preview') this.#previewed(item.frame);
    else if (item.state === 'lost') {
      this.#line('yellow', '…', 'the server went away; waiting for it to come back (the session is safe)');
      this.#begin('waiting for the server');
    } else {
      this.#line('yellow', '✓', 'the server is back; going on where we were');
      this.#begin('working');
    }
    this.#draw();
  }

  #event(event: SessionEvent): void {
    this.#tellers[event.type]?.(event);
  }

  /** What is told of each type; types that are not here are not told. */
  readonly #tellers: Record<string, (event: SessionEvent) => void> = {
    'session.status_running': () => this.#begin('working'),
    'session.status_idle': () => this.#rest(),
    'session.status_terminated': () => this.#rest(),
    'session.status_rescheduled': () => this.#begin('waiting to try again'),
    'span.model_request_start': () => this.#begin('thinking'),
    'span.model_request_end': (event) => this.#count(event),
    'agent.message': (event) => this.#said(event),
    'agent.tool_use': (event) => this.#toolBegan(event),
    'agent.custom_tool_use': (event) => this.#toolBegan(event),
    'agent.tool_result': (event) => this.#toolEnded(event),
    'sandbox.started': (event) => this.#sandbox(event),
    'sandbox.limit_reached': (event) =>
      this.#line('yellow', '!', oneLine(String(event.message), this.#width())),
    'session.error': (event) => this.#failed(event),
    'network.decision': (event) => this.#network(event),
    // Inputs come twice, when they arrive and when they are taken up; they are told when they arrive.
    'user.interrupt': (event) => {
      if (event.processed_at === null) this.#line('yellow', '■', 'interrupt asked for');
    },
    'user.message': (event) => {
      const text = oneLine(textOf(event.content), this.#width());
      if (event.processed_at === null) this.#line('cyan', '›', text);
    },
  };

  /** What was let through is not told: a command's output shows it. */
  #network(event: SessionEvent): void {
    if (event.decision === 'allowed') return;
    const place = oneLine(`${event.host}${event.port === null ? '' : `:${event.port}`}`, 80);
    const isAsked = event.decision === 'asked';
    const name = place.split(':')[0];
    const what = isAsked
      ? `${place} is asked for: scriptorium network <session> ${name} --allow`
      : `${place} was refused: ${oneLine(String(event.reason), this.#width() - place.length - 20)}`;
    this.#line('yellow', isAsked ? '?' : '⊘', what);
  }

  #rest(): void {
    this.#activity = null;
  }

  #begin(activity: string): void {
    this.#activity = activity;
    this.#activitySinceMs = Date.now();
    this.#preview = '';
  }

  #said(event: SessionEvent): void {
    this.#preview = '';
    const text = safeText(textOf(event.content)).trim();
    if (text === '') return;
    for (const line of text.split('\n')) this.#terminal.err(`  ${line}`);
  }

  #toolBegan(event: SessionEvent): void {
    const name = oneLine(String(event.name), 40);
    const summary = summaryOf(String(event.name), event.input as JsonObject);
    const asked = event.evaluated_permission === 'ask';
    this.#running.set(event.id, { name, summary, sinceMs: timeOf(event), asked });
    this.#totals.toolCalls += 1;
    if (asked)
      this.#line('yellow', '?', `${name} ${oneLine(summary, this.#width() - name.length - 20)} (asks first)`);
    else if (this.#terminal.isPlain) this.#line('cyan', '>', this.#call(name, summary));
  }

  #toolEnded(event: SessionEvent): void {
    const id = String(event.tool_use_id);
    const call = this.#running.get(id);
    this.#running.delete(id);
    const tookMs = tookOf(event, call);
    const took = this.#terminal.paint('dim', duration(tookMs));
    const isBad = event.is_error === true;
    const mark = event.in_doubt === true ? '?' : isBad ? '✗' : '✓';
    const what = call === undefined ? 'a call' : this.#call(call.name, call.summary);
    this.#line(isBad ? 'red' : 'green', mark, `${what}  ${took}`);
    if (event.in_doubt === true)
      this.#terminal.err('    nobody can know whether this happened; the agent was told so');
    const lines = safeText(textOf(event.content))
      .trim()
      .split('\n')
      .filter((line) => line.trim() !== '');
    const shown = isBad || call?.name === 'bash' ? lines.slice(-OUTPUT_LINES) : [];
    if (lines.length > shown.length && shown.length > 0)
      this.#terminal.err(this.#terminal.paint('dim', `    … ${lines.length - shown.length} more lines`));
    for (const line of shown)
      this.#terminal.err(this.#terminal.paint('dim', `    ${oneLine(line, this.#width())}`));
  }

  #call(name: string, summary: string): string {
    return `${this.#terminal.paint('bold', name)} ${oneLine(summary, Math.max(20, this.#width() - name.length - 14))}`;
  }

  #sandbox(event: SessionEvent): void {
    const none = event.isolation === 'none';
    const text = none
      ? 'NOT ISOLATED: the agent runs with the rights of the server'
      : `sandbox: ${String(event.isolation)}, network ${String(event.network)}, limits by ${String(event.limits_by)}`;
    this.#line(none ? 'red' : 'dim', none ? '!' : '·', oneLine(text, this.#width()));
    const warnings = Array.isArray(event.warnings) ? event.warnings : [];
    for (const warning of warnings) this.#line('yellow', '!', oneLine(String(warning), this.#width()));
  }

  #failed(event: SessionEvent): void {
    const error = event.error as
      | { type?: string; message?: string; retry_status?: { type?: string } }
      | undefined;
    const isRetrying = error?.retry_status?.type === 'retrying';
    const text = safeText(error?.message ?? 'unknown error').trim();
    this.#line(
      isRetrying ? 'yellow' : 'red',
      isRetrying ? '…' : '✗',
      isRetrying ? `${text} (trying again)` : text,
    );
  }

  #count(event: SessionEvent): void {
    const usage = event.model_usage as Record<string, number> | undefined;
    const totals = this.#totals;
    totals.inputTokens += (usage?.input_tokens ?? 0) + (usage?.cache_read_input_tokens ?? 0);
    totals.outputTokens += usage?.output_tokens ?? 0;
    const cost = event.cost_micros;
    if (event.is_error !== true)
      totals.costMicros =
        totals.costMicros === null || typeof cost !== 'number' ? null : totals.costMicros + cost;
    if (this.#activity === 'thinking') this.#begin('working');
  }

  #previewed(frame: JsonObject): void {
    const delta = frame.delta as { content?: { text?: string } } | undefined;
    if (typeof delta?.content?.text === 'string')
      this.#preview = (this.#preview + delta.content.text).slice(-400);
  }

  #line(style: 'red' | 'green' | 'yellow' | 'cyan' | 'dim', mark: string, text: string): void {
    const { paint, isPlain } = this.#terminal;
    const at = isPlain ? `${((Date.now() - this.#startMs) / 1_000).toFixed(1).padStart(7)}s ` : '';
    this.#terminal.err(`${at}${paint(style, mark)} ${text}`);
  }

  #draw(): void {
    if (this.#terminal.isPlain || this.#isHeld) return;
    const [running] = this.#running.values();
    if (this.#activity === null && running === undefined) {
      this.#terminal.status('');
      return;
    }
    const spinner = SPINNER[this.#ticks++ % SPINNER.length] ?? '';
    const sinceMs = Date.now() - (running?.sinceMs ?? this.#activitySinceMs);
    const { inputTokens, outputTokens, costMicros } = this.#totals;
    const figures = `${duration(Math.max(0, sinceMs))} · ${tokens(inputTokens)}→${tokens(outputTokens)} tokens · ${money(costMicros)}`;
    const room = this.#width() - figures.length - 4;
    const tail = safeText(this.#preview)
      .replace(/\s+/g, ' ')
      .slice(-Math.max(10, room - 12));
    const doing = running
      ? `${running.name} ${running.summary}`
      : tail === ''
        ? (this.#activity ?? '')
        : `writing …${tail}`;
    this.#terminal.status(
      `${spinner} ${oneLine(doing, Math.max(10, room))}  ${this.#terminal.paint('dim', figures)}`,
    );
  }

  #width(): number {
    return Math.max(40, Math.min(this.#terminal.columns, 160)) - 4;
  }
}

/**
 * The engine measures from its own dispatch, which for a call that outlived an engine is only the rest of it; a call
 * that asked first waited for a person, which is not its own time.
 */
function tookOf(event: SessionEvent, call: Running | undefined): number {
  const measuredMs = typeof event.duration_ms === 'number' ? event.duration_ms : 0;
  return call === undefined || call.asked ? measuredMs : Math.max(measuredMs, timeOf(event) - call.sinceMs);
}

function timeOf(event: SessionEvent): number {
  const at = event.processed_at === null ? Number.NaN : Date.parse(event.processed_at);
  return Number.isNaN(at) ? Date.now() : at;
}

export function textOf(content: unknown): string {
  if (!Array.isArray(content)) return '';
  return content
    .map((block: unknown) => {
      const { type, text } = (block ?? {}) as { type?: string; text?: string };
      return type === 'text' ? (text ?? '') : `[${type}]`;
    })
    .join('\n');
}

/** What a call is about, in one line: the command, the file, the pattern; else its input. */
export function summaryOf(name: string, input: JsonObject | null | undefined): string {
  const value = input ?? {};
  const text = (key: string): string | null => (typeof value[key] === 'string' ? value[key] : null);
  const path = (text('file_path') ?? text('path'))?.replace(/^\/workspace\//, '') ?? null;
  if (name === 'bash') return text('command') ?? (value.restart === true ? '(restart)' : '');
  if (name === 'glob' || name === 'grep')
    return [text('pattern'), path].filter((part) => part !== null).join(' in ');
  if (name === 'apply_patch') {
    const files = [
      ...(text('patch') ?? text('input') ?? '').matchAll(/^\*\*\* (?:Add|Update|Delete) File: (.+)$/gm),
    ];
    return files.map((match) => match[1]).join(', ');
  }
  return path ?? JSON.stringify(value);
}
