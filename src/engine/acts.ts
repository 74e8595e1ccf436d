/**
 * The acts of one claimed session: what is under way, how the next one begins, how one is called off. One act a key at a
 * time; an act whose outcome is missing from the log but that is not under way here was another engine's (L6).
 */
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Model } from '../model/model.ts';
import { failpoint, failpoints, sabotaged } from '../protocol/failpoint.ts';
import { newId } from '../protocol/ids.ts';
import { canonicalJson } from '../protocol/json.ts';
import type { PreviewFrame } from '../protocol/previews.ts';
import type { ActEffect } from '../session/decide.ts';
import type { Draft } from '../session/events.ts';
import type { TokenUsage } from '../session/model-request.ts';
import { requestOf } from '../session/render.ts';
import type { Call, SessionState, Turn } from '../session/state.ts';
import type { Tool } from '../tools/tool.ts';
import { checkpointIntent, makeCheckpoint, restoreCheckpoint } from './act-checkpoint.ts';
import { callModel, failureDrafts } from './act-model.ts';
import { runTool, terminateOrphan } from './act-tool.ts';
import { draft } from './draft.ts';
import type { Emit, Hands, Ready } from './hands.ts';
import type { Shell } from './realize.ts';

export type Facts = { drafts: Draft[]; settled?: { id: string; costMicros: number | null } };

/** An act that may begin once its intents are durable. */
export type Started = {
  intents: Draft[];
  reserves?: string;
  perform(state: SessionState, emit: Emit): Promise<Facts | null>;
  /** To be called once the facts are where the next decision finds them: until then the act counts as under way (L4). */
  ended(): void;
};

/** Either an act, or facts that are known without acting. */
export type Prepared = { start: Started } | { facts: Facts };

type Performing = {
  /** As it was when the act began. */
  state: SessionState;
  emit: Emit;
  signal: AbortSignal;
  isAbandoned(): boolean;
};

type UnderWay = { controller: AbortController; isAbandoned: boolean; isModel: boolean };

export type ActDeps = {
  /** Null where the model id is not known; the turn then ends with that as its reason. */
  modelFor(model: string): Model | null;
  findTool(name: string): Tool | null;
  costMicros(model: string, usage: TokenUsage): number | null;
  onPreview(session: string, frame: PreviewFrame): void;
};

/** A host that does not answer keeps the session for no longer. */
const terminateMs = 5_000;
const nothingSpent = { usage: null, costMicros: 0 };

export class Acts {
  readonly #underWay = new Map<string, UnderWay>();
  readonly #deps: ActDeps;
  readonly #shell: Shell;
  readonly #hands: Hands;

  constructor(deps: ActDeps, shell: Shell, hands: Hands) {
    this.#deps = deps;
    this.#shell = shell;
    this.#hands = hands;
  }

  get isModelUnderWay(): boolean {
    return [...this.#underWay.values()].some(({ isModel }) => isModel);
  }

  /** Forgets everything: model streams are cut; processes go on in the host, for the next owner to take up. */
  abandon(): void {
    for (const act of this.#underWay.values()) {
      act.isAbandoned = true;
      if (act.isModel) act.controller.abort();
    }
    this.#underWay.clear();
  }

  /** S5: ends what these calls still run, as far as it can be reached now; after an end that is in the log already. */
  async terminate(callIds: readonly string[]): Promise<void> {
    const ending = callIds.map(async (id) => {
      const { session, fence, callId, executor } = this.#hands.contextFor(id, '/', AbortSignal.abort());
      await executor.terminateProcess({ session, fence, callId });
    });
    // What fails here is what made the engine give up; it has been complained of.
    await Promise.race([Promise.allSettled(ending), sleep(terminateMs, null, { ref: false })]);
  }

  /** What has to be written and then done for this effect; null where it is under way already. */
  prepare(effect: ActEffect, state: SessionState): Prepared | null {
    switch (effect.type) {
      case 'call_model':
        return { start: this.#prepareModel(effect.turn, state) };
      case 'await_model':
        return this.#underWay.has(effect.callId)
          ? null
          : this.#giveUpModel(effect.turn, 'engine_lost', state);
      case 'cancel_model':
        return this.#cancel(effect.callId) ? null : this.#giveUpModel(effect.turn, 'aborted', state);
      case 'run_tool':
        return this.#underWay.has(effect.call.id) ? null : { start: this.#prepareTool(effect.call, state) };
      case 'cancel_tool':
        return this.#cancel(effect.call.id) ? null : { start: this.#prepareTermination(effect.call) };
      case 'wait':
        return this.#fireTimer(effect, state);
      case 'checkpoint':
        return this.#prepareCheckpoint(state);
      case 'restore':
        return this.#underWay.has(effect.restoring.callId) ? null : { start: this.#prepareRestore(effect) };
    }
  }

  /** One that an earlier engine intended is asked for again by its id. */
  #prepareCheckpoint(state: SessionState): Prepared | null {
    const { mint } = this.#shell;
    const { making } = state.checkpoints;
    if (making && this.#underWay.has(making.id)) return null;
    const { id, intents } = making
      ? { id: making.id, intents: [] }
      : checkpointIntent(state, mint, this.#shell.nowMs());
    const act = this.#act(id, false, async ({ state: now }) => ({
      drafts: await makeCheckpoint(this.#hands.disk, now, mint),
    }));
    return { start: { intents, ...act } };
  }

  #prepareRestore({ restoring }: Extract<ActEffect, { type: 'restore' }>): Started {
    return {
      intents: [],
      ...this.#act(restoring.callId, false, async ({ state, emit, isAbandoned }) => {
        const { mint } = this.#shell;
        const carryUploads = (): Promise<Ready> => this.#hands.carryUploads(state, this.#shell, emit);
        const act = { restoring, disk: this.#hands.disk, carryUploads, isAbandoned };
        const drafts = await restoreCheckpoint(act, state, mint);
        this.#hands.forget();
        return { drafts };
      }),
    };
  }

  #fireTimer(effect: Extract<ActEffect, { type: 'wait' }>, state: SessionState): Prepared | null {
    if (Date.parse(effect.until) > this.#shell.nowMs()) return null;
    return {
      facts: { drafts: [draft(this.#shell.mint, state, 'timer.fired', { timer_id: effect.timerId }, {})] },
    };
  }

  #cancel(key: string): boolean {
    const act = this.#underWay.get(key);
    act?.controller.abort();
    return act !== undefined;
  }

  /** Has the key from its beginning to `ended`. An abandoned act reports nothing: its outcome is the next owner's to find. */
  #act(
    key: string,
    isModel: boolean,
    work: (at: Performing) => Promise<Facts>,
  ): Pick<Started, 'perform' | 'ended'> {
    const act: UnderWay = { controller: new AbortController(), isAbandoned: false, isModel };
    return {
      perform: async (state, emit) => {
        this.#underWay.set(key, act);
        const { signal } = act.controller;
        const working = work({ state, emit, signal, isAbandoned: () => act.isAbandoned });
        if (failpoints.on) await begun(working);
        const facts = await working;
        return act.isAbandoned ? null : facts;
      },
      ended: () => {
        if (this.#underWay.get(key) === act) this.#underWay.delete(key);
      },
    };
  }

  #prepareModel(turn: Turn, state: SessionState): Started {
    const { mint } = this.#shell;
    const wanted = state.config?.prefix.model ?? '';
    const model = this.#deps.modelFor(wanted);
    const startId = mint.newEventId();
    const callId = newId('modelCall', this.#shell.nowMs());
    const start = draft(mint, state, 'span.model_request_start', {}, { id: startId, call: callId });
    const rendered = model?.render(requestOf(state)) ?? { body: [], sha256: '' };
    const intent = draft(
      mint,
      state,
      'model.intent',
      { model_request_start_id: startId, round: turn.rounds, attempt: turn.attempts },
      { call: callId, causation: startId, private: { requestSha256: rendered.sha256, model: wanted } },
    );
    return {
      intents: [start, intent],
      reserves: callId,
      ...this.#act(callId, true, async ({ state: now, signal }) => {
        if (!model) return this.#unknownModel(wanted, callId, startId, now);
        const { costMicros } = this.#deps;
        const onPreview = (frame: PreviewFrame): void => this.#deps.onPreview(this.#shell.session, frame);
        return callModel({ model, rendered, startId, callId, signal, onPreview, costMicros }, now, mint);
      }),
    };
  }

  #unknownModel(model: string, callId: string, startId: string, state: SessionState): Facts {
    const message = `No provider is configured for the model ${model}. Set OPENAI_API_KEY (and OPENAI_BASE_URL) for the server.`;
    const error = { kind: 'invalid_request', message, isRetryable: false, retryAfterMs: null };
    return {
      drafts: failureDrafts(
        { callId, startId, error, ...nothingSpent, shownIds: [] },
        state,
        this.#shell.mint,
      ),
      settled: { id: callId, costMicros: 0 },
    };
  }

  /** L3, G3: the attempt of a dead engine is closed, its reservation released; the model is asked anew. */
  #giveUpModel(turn: Turn, kind: 'engine_lost' | 'aborted', state: SessionState): Prepared {
    const { callId, startId } = turn.model ?? { callId: '', startId: '' };
    const message = kind === 'aborted' ? 'interrupted' : 'the engine that made this request is gone';
    const error = { kind, message, isRetryable: true, retryAfterMs: null };
    const drafts = failureDrafts(
      { callId, startId, error, ...nothingSpent, shownIds: null },
      state,
      this.#shell.mint,
    );
    return { facts: { drafts, settled: { id: callId, costMicros: 0 } } };
  }

  #prepareTool(call: Call, state: SessionState): Started {
    const tool = this.#deps.findTool(call.name);
    const isTakenOver = call.isIntended;
    const inputSha256 = createHash('sha256').update(canonicalJson(call.input)).digest('hex');
    const intent = draft(
      this.#shell.mint,
      state,
      'intent',
      { tool_use_id: call.id, effect: tool?.effect ?? 'unsafe' },
      { call: call.id, causation: call.id, private: { inputSha256 } },
    );
    return {
      intents: isTakenOver || (failpoints.on && sabotaged('sabotage.no-intent')) ? [] : [intent],
      ...this.#act(call.id, false, async ({ state: now, emit, signal, isAbandoned }) => {
        const act = {
          call,
          tool,
          context: this.#hands.contextFor(call.id, now.cwd, signal),
          ready: () => this.#hands.ready(now, this.#shell, emit),
          isTakenOver,
          isAbandoned,
          nowMs: () => this.#shell.nowMs(),
        };
        return { drafts: await runTool(act, now, this.#shell.mint) };
      }),
    };
  }

  #prepareTermination(call: Call): Started {
    return {
      intents: [],
      ...this.#act(call.id, false, async ({ state, isAbandoned }) => {
        const act = {
          call,
          tool: this.#deps.findTool(call.name),
          context: this.#hands.contextFor(call.id, state.cwd, AbortSignal.abort()),
          ready: async () => ({ ok: true }) as const,
          isTakenOver: true,
          isAbandoned,
          nowMs: () => this.#shell.nowMs(),
        };
        return { drafts: await terminateOrphan(act, state, this.#shell.mint) };
      }),
    };
  }
}

async function begun(working: Promise<unknown>): Promise<void> {
  // Whoever waits at the failpoint hears of a failure a little later.
  working.catch(() => {});
  await failpoint('engine.after-act-began');
}
