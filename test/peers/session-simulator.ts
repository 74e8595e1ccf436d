/**
 * A simulated engine over a plain array: the real decide, realize and fold, with a model, tools, a person and crashes
 * that come from the test's own choices. No clock, no I/O: a log of hundreds of events in a millisecond.
 */
import { createHash } from 'node:crypto';
import { failureDrafts } from '../../src/engine/act-model.ts';
import { draft } from '../../src/engine/draft.ts';
import type { Shell } from '../../src/engine/realize.ts';
import { realize } from '../../src/engine/realize.ts';
import { decide as guard } from '../../src/guard/guard.ts';
import { renderRequest } from '../../src/model/openai-responses/request.ts';
import { accept, type InputEvent } from '../../src/session/accept.ts';
import { type ActEffect, decide, isAct } from '../../src/session/decide.ts';
import type { Draft, PinnedTool } from '../../src/session/events.ts';
import { type Folded, fold } from '../../src/session/fold.ts';
import { noUsage, type OutputItem } from '../../src/session/model-request.ts';
import { requestOf } from '../../src/session/render.ts';
import { blockers, initialState, type KeptCheckpoint, type SessionState } from '../../src/session/state.ts';
import { askOfCheckpoints, checkpointEnd, restoreEnd } from './simulated-checkpoints.ts';

/** Numbers that decide everything that is left open; the test draws them. */
export type Choose = (below: number) => number;

const tools: PinnedTool[] = [
  { kind: 'builtin', name: 'bash', policy: 'always_allow', isPure: false },
  { kind: 'builtin', name: 'read', policy: 'always_allow', isPure: true },
  { kind: 'builtin', name: 'glob', policy: 'always_ask', isPure: true },
  { kind: 'builtin', name: 'write', policy: 'always_ask', isPure: false },
  { kind: 'custom', name: 'ask_client', policy: 'always_allow', isPure: true },
];
const toolNames = ['bash', 'read', 'glob', 'write', 'ask_client', 'no_such_tool'];

export class Simulator {
  readonly log: Folded[] = [];
  state: SessionState = initialState;
  /** Acts under way in the present engine: key → how it ends when it does. */
  readonly underWay = new Map<string, ActEffect>();
  /** What really ran, by call id: the witness for L6. */
  readonly effects = new Map<string, number>();
  readonly #choose: Choose;
  #ids = 0;
  #clockMs = 0;
  /** Towards the end the model only talks: drawn from few choices, it could go on for ever. */
  #isSettling = false;

  constructor(choose: Choose, past?: Draft[], ids = 0) {
    this.#choose = choose;
    this.#ids = ids;
    this.#append(past ?? [this.#created()]);
  }

  readonly shell: Shell = {
    mint: { worker: 'wrkr_simulated', newEventId: () => `sevt_${++this.#ids}` },
    decide: guard,
    session: 'sesn_simulated',
    nowMs: () => this.#clockMs,
    retryDelayMs: (failure, attempt) => (failure.isRetryable && attempt < 4 ? 100 * attempt : null),
  };

  #created(): Draft {
    return {
      ...blank('session.created', 'sevt_created'),
      public: { title: null },
      private: {
        thread: 'sthr_1',
        agent: { id: 'agent_1', version: 1, name: 'simulated' },
        environmentId: 'env_1',
        environment: {},
        prefix: {
          model: 'm',
          effort: null,
          instructions: 'i',
          tools: [],
          maxOutputTokens: null,
          cacheKey: 'k',
        },
        tools,
        isolation: 'bubblewrap',
        repository: null,
        uploads: [],
        metadata: {},
        resources: [],
      },
    } as Draft;
  }

  #append(events: Draft[]): void {
    for (const event of events) {
      const placed = { ...event, seq: this.log.length + 1 };
      this.log.push(placed);
      this.state = fold(this.state, placed);
    }
  }

  /** A person or client sends something; what is not acceptable now is not sent. */
  input(event: InputEvent): boolean {
    const accepted = accept(this.state, event).ok;
    if (accepted) this.#append([event]);
    return accepted;
  }

  randomInput(): void {
    const id = `sevt_in${++this.#ids}`;
    const waiting = blockers(this.state);
    const target = waiting.length > 0 ? waiting[this.#choose(waiting.length)] : undefined;
    if (this.#choose(8) === 0 && this.askOfCheckpoints(id)) return;
    const kind = this.#choose(target ? 6 : 3);
    if (kind === 0 || kind === 1) {
      const delivery = this.#choose(3) === 0 ? ('steer' as const) : ('queue' as const);
      this.input({
        ...blank('user.message', id),
        public: { content: [{ type: 'text', text: id }], delivery },
        private: null,
      } as InputEvent);
    } else if (kind === 2) {
      if (this.#choose(3) === 0)
        this.input({ ...blank('user.interrupt', id), public: {}, private: null } as InputEvent);
    } else if (target?.kind === 'builtin') {
      const result = this.#choose(2) === 0 ? ('allow' as const) : ('deny' as const);
      this.input({
        ...blank('user.tool_confirmation', id),
        public: { tool_use_id: target.id, result },
        private: null,
      } as InputEvent);
    } else if (target) {
      const answer = { custom_tool_use_id: target.id, content: [{ type: 'text' as const, text: 'answer' }] };
      this.input({ ...blank('user.custom_tool_result', id), public: answer, private: null } as InputEvent);
    }
  }

  /** A person asks for a checkpoint, or to go back to one; false where nothing was asked. */
  askOfCheckpoints(id: string): boolean {
    const asked = askOfCheckpoints(this.state, blank('', id), this.#choose);
    this.#append(asked);
    return asked.length > 0;
  }

  /** Another session that begins where this one was at a checkpoint, as the API makes it. */
  fork(at: KeptCheckpoint, choose: Choose): Simulator {
    const copy = this.log.slice(0, at.seq);
    const forked = {
      ...blank('session.forked', `sevt_forked${at.id}`),
      public: { from_session_id: 'sesn_simulated', at_event_id: at.eventId, checkpoint_id: at.id },
      private: { resources: [] },
    } as Draft;
    return new Simulator(choose, [...copy, forked], this.#ids);
  }

  /** kill -9: nothing under way is known to anyone any more. */
  crash(): void {
    this.underWay.clear();
  }

  /** One decision of the engine, committed at once. False: it rests. */
  step(): boolean {
    const effects = decide(this.state);
    const first = effects[0];
    if (first === undefined) return false;
    if (!isAct(first)) {
      this.#append(realize(first, this.state, this.shell));
      return true;
    }
    let isBusy = false;
    for (const effect of effects) if (isAct(effect) && this.#act(effect)) isBusy = true;
    return isBusy || this.finishOne();
  }

  #act(effect: ActEffect): boolean {
    switch (effect.type) {
      case 'call_model':
        return this.#callModel(effect);
      case 'await_model':
      case 'cancel_model':
        return this.#awaitModel(effect);
      case 'run_tool':
        return this.#runTool(effect);
      case 'cancel_tool':
        this.underWay.delete(effect.call.id);
        this.#result(effect.call.id, true);
        return true;
      case 'wait':
        this.#clockMs = Date.parse(effect.until);
        this.#append([draft(this.shell.mint, this.state, 'timer.fired', { timer_id: effect.timerId }, {})]);
        return true;
      case 'checkpoint':
        return this.#checkpoint(effect);
      case 'restore':
        if (this.underWay.has(effect.restoring.callId)) return false;
        this.underWay.set(effect.restoring.callId, effect);
        return true;
    }
  }

  #checkpoint(effect: ActEffect): boolean {
    const { making, requests, position } = this.state.checkpoints;
    const id = making?.id ?? requests[0] ?? `ckpt_${++this.#ids}`;
    if (this.underWay.has(id)) return false;
    const reason = requests.includes(id) ? ('requested' as const) : ('turn_end' as const);
    const intent = { checkpoint_id: id, at_event_id: position?.eventId ?? '', reason };
    if (!making)
      this.#append([draft(this.shell.mint, this.state, 'checkpoint.intent', intent, { call: id })]);
    this.underWay.set(id, effect);
    return true;
  }

  #callModel(effect: Extract<ActEffect, { type: 'call_model' }>): boolean {
    const startId = this.shell.mint.newEventId();
    const callId = `mcall_${++this.#ids}`;
    const requestSha256 = requestHash(this.state);
    this.#append([
      draft(this.shell.mint, this.state, 'span.model_request_start', {}, { id: startId, call: callId }),
      draft(
        this.shell.mint,
        this.state,
        'model.intent',
        { model_request_start_id: startId, round: effect.turn.rounds, attempt: effect.turn.attempts },
        { call: callId, private: { requestSha256, model: 'm' } },
      ),
    ]);
    const turn = this.state.turn;
    if (turn) this.underWay.set(callId, { type: 'await_model', callId, turn });
    return true;
  }

  #awaitModel(effect: Extract<ActEffect, { type: 'await_model' | 'cancel_model' }>): boolean {
    const isMine = this.underWay.has(effect.callId);
    if (isMine && effect.type === 'await_model') return false;
    this.underWay.delete(effect.callId);
    const startId = effect.turn.model?.startId ?? '';
    const kind = effect.type === 'cancel_model' ? 'aborted' : 'engine_lost';
    const error = { kind, message: kind, isRetryable: true, retryAfterMs: null };
    this.#append(
      failureDrafts(
        { callId: effect.callId, startId, error, usage: null, costMicros: 0, shownIds: null },
        this.state,
        this.shell.mint,
      ),
    );
    return true;
  }

  #runTool(effect: Extract<ActEffect, { type: 'run_tool' }>): boolean {
    const { call } = effect;
    if (this.underWay.has(call.id)) return false;
    if (!this.state.sandbox.isStarted) {
      const started = { isolation: 'bubblewrap', disk: { driver: 'btrfs', limit_bytes: null } };
      this.#append([draft(this.shell.mint, this.state, 'sandbox.started', started, {})]);
    }
    if (!call.isIntended) {
      const extra = { call: call.id, private: { inputSha256: '' } };
      this.#append([
        draft(this.shell.mint, this.state, 'intent', { tool_use_id: call.id, effect: 'unsafe' }, extra),
      ]);
    }
    // The host's journal: asked again with the same id, it runs nothing a second time.
    if (!this.effects.has(call.id)) this.effects.set(call.id, 1);
    this.underWay.set(call.id, effect);
    return true;
  }

  /** One act under way comes to its end. */
  finishOne(): boolean {
    const keys = [...this.underWay.keys()];
    const key = keys[this.#choose(Math.max(1, keys.length))];
    const act = key === undefined ? undefined : this.underWay.get(key);
    if (key === undefined || !act) return false;
    this.underWay.delete(key);
    const { mint } = this.shell;
    if (act.type === 'checkpoint') this.#append(checkpointEnd(this.state, mint, this.#choose));
    else if (act.type === 'restore') this.#append(restoreEnd(act.restoring, this.state, mint, this.#choose));
    else if (act.type === 'run_tool') this.#result(key, this.#choose(4) === 0);
    else if (act.type === 'await_model') this.#answer(key, act.turn.model?.startId ?? '');
    return true;
  }

  #result(callId: string, isError: boolean): void {
    const payload = {
      tool_use_id: callId,
      content: [{ type: 'text' as const, text: `ran ${callId}` }],
      is_error: isError,
    };
    const extra = { call: callId, private: { cwd: `/workspace/${this.#choose(3)}` } };
    this.#append([draft(this.shell.mint, this.state, 'agent.tool_result', payload, extra)]);
  }

  #answer(callId: string, startId: string): void {
    const how = this.#isSettling ? 2 : this.#choose(10);
    if (how === 0) {
      const error = {
        kind: 'overloaded',
        message: 'busy',
        isRetryable: this.#choose(3) > 0,
        retryAfterMs: null,
      };
      // Some failures cost something, and of some nobody knows what.
      const usage = this.#choose(2) === 0 ? { ...noUsage, inputTokens: 5, outputTokens: 2 } : null;
      const cost = usage === null ? 0 : this.#choose(8) === 0 ? null : 7;
      this.#append(
        failureDrafts(
          { callId, startId, error, usage, costMicros: cost, shownIds: [] },
          this.state,
          this.shell.mint,
        ),
      );
      return;
    }
    const output: (OutputItem & { index: number; eventId: string })[] = [];
    const add = (item: OutputItem) =>
      output.push({ ...item, index: output.length, eventId: this.shell.mint.newEventId() });
    if (this.#choose(2) === 0) add({ type: 'reasoning' });
    if (this.#choose(2) === 0) add({ type: 'message', text: 'text' });
    if (how === 1) add({ type: 'refusal', text: 'no' });
    const calls = how < 4 ? 0 : this.#choose(4);
    for (let i = 0; i < calls; i++) {
      const name = toolNames[this.#choose(toolNames.length)] ?? 'bash';
      const input = this.#choose(8) === 0 ? null : { n: i };
      add({
        type: 'tool_call',
        providerCallId: `call_${++this.#ids}`,
        name,
        input,
        rawInput: input ? JSON.stringify(input) : '{bad',
      });
    }
    const response = {
      provider: 'openai',
      wire: 'openai-responses',
      model: 'm',
      items: output.map(itemOf),
      output,
      stop: how === 1 ? ('refusal' as const) : ('end' as const),
      usage: { inputTokens: 1, cacheReadTokens: 0, cacheWriteTokens: 0, outputTokens: 1 },
      costMicros: 3,
    };
    const extra = { call: callId, private: response };
    this.#append([
      draft(this.shell.mint, this.state, 'model.response', { model_request_start_id: startId }, extra),
    ]);
  }

  /** Runs on without further input until nothing is left to do. */
  settle(maxSteps = 2_000): void {
    this.#isSettling = true;
    for (let i = 0; i < maxSteps; i++) if (!this.step()) return;
    throw new Error('the session does not come to rest');
  }
}

export function requestHash(state: SessionState): string {
  const rendered = renderRequest(requestOf(state), { provider: 'openai' });
  const hash = createHash('sha256');
  for (const piece of rendered.body) hash.update(piece);
  return hash.digest('hex');
}

function itemOf(item: OutputItem, index: number) {
  switch (item.type) {
    case 'tool_call':
      return {
        type: 'function_call',
        call_id: item.providerCallId,
        name: item.name,
        arguments: item.rawInput,
      };
    case 'reasoning':
      return { type: 'reasoning', id: `rs_${index}`, summary: [], encrypted_content: 'x' };
    default:
      return { type: 'message', role: 'assistant', content: [{ type: 'output_text', text: 'text' }] };
  }
}

function blank(type: string, id: string) {
  return {
    id,
    type,
    actor: 'test',
    thread: 'sthr_1',
    turn: null,
    call: null,
    causation: null,
    audience: 'public',
  };
}
