/**
 * The people of one session: one who sends tasks, one who interrupts them now and then, one who answers what the agent
 * asks, and several who look on. They do what a careful client does (repeat with the same key until there is an answer)
 * and what a careless one does (send without a key, once; press twice), and write down what they were told.
 */
import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { JsonObject } from '../src/protocol/json.ts';
import type { Ask, Asked } from './ask.ts';
import { insist, isPassing } from './ask.ts';
import type { Frame, Group, InputEvidence, ReaderEvidence } from './evidence.ts';
import { messageOf } from './model-script.ts';
import type { Random } from './random.ts';
import { Reader } from './reader.ts';

export type ClientOptions = {
  session: string;
  ask: Ask;
  url: string;
  apiKey: string;
  random: Random;
  readers: number;
  /** False once enough has been asked for. */
  wantsMore(): boolean;
  /** Each position of the log that somebody sees for the first time. */
  onNews(group: Group): void;
};

/** More tasks than this do not wait in one session. */
const maxWaiting = 2;
const stepsOfTask = { from: 2, to: 5 };
/** The view of last resort on what waits for an answer. */
const lookMs = 2_500;

export class Clients {
  readonly inputs: InputEvidence[] = [];
  readonly readers: Reader[];
  readonly #options: ClientOptions;
  readonly #answered = new Set<string>();
  /** Calls that were seen, and whether the client itself is to do them. */
  readonly #isCustom = new Map<string, boolean>();
  readonly #takenUp = new Set<string>();
  /** Of long runs there is more than can be kept three times over. */
  readonly #seen = new Map<number, { digest: string; group: Group }>();
  readonly #stopSending = new AbortController();
  readonly #stopAll = new AbortController();
  readonly #running: Promise<void>[] = [];
  #lastSeen = 0;
  #tasks = 0;
  #requests = 0;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.readers = Array.from({ length: options.readers }, (_, index) => this.#reader(index));
    this.#running.push(this.#send(), this.#lookForQuestions(), this.#interrupt());
  }

  /** Whether a request of somebody is still without an answer. */
  isBusy(): boolean {
    return this.#requests > 0;
  }

  /** No new tasks; what was begun is finished. */
  async settle(): Promise<void> {
    this.#stopSending.abort();
    for (const reader of this.readers) reader.settle();
    await this.#running[0];
  }

  async stop(): Promise<ReaderEvidence[]> {
    this.#stopSending.abort();
    this.#stopAll.abort();
    const seen = await Promise.all(this.readers.map((reader) => reader.stop()));
    await Promise.all(this.#running);
    return seen;
  }

  #reader(index: number): Reader {
    const { session, url, apiKey, random } = this.#options;
    return new Reader({
      session,
      url,
      apiKey,
      name: `reader ${index}`,
      // One stays; the others come and go.
      hangUpAfterMs: () => (index === 0 ? null : random.between(100, 3_000)),
      share: (group, words) => this.#share(group, words),
      onGroup: (group) => this.#see(group),
    });
  }

  #share(group: Group, words: string): Group {
    const digest = createHash('sha256').update(words).digest('base64');
    const before = this.#seen.get(group.seq);
    if (before === undefined) this.#seen.set(group.seq, { digest, group });
    return before?.digest === digest ? before.group : group;
  }

  #see(group: Group): void {
    if (group.seq <= this.#lastSeen) return;
    this.#lastSeen = group.seq;
    this.#options.onNews(group);
    for (const frame of group.frames) this.#notice(frame);
  }

  #notice({ type, data }: Frame): void {
    if (type === 'agent.custom_tool_use' || type === 'agent.tool_use')
      this.#isCustom.set(String(data.id), type === 'agent.custom_tool_use');
    if (type === 'user.message' && data.processed_at !== null) this.#takenUp.add(String(data.id));
    if (type === 'session.status_idle') this.#answerAll(data.stop_reason);
  }

  #answerAll(reason: unknown): void {
    const { type, event_ids } = (reason ?? {}) as { type?: string; event_ids?: string[] };
    if (type !== 'requires_action') return;
    for (const id of event_ids ?? []) {
      // A poll may know of a call before any stream does: it is answered when it has been seen.
      if (this.#answered.has(id) || !this.#isCustom.has(id)) continue;
      this.#answered.add(id);
      this.#running.push(this.#answer(id));
    }
  }

  async #answer(id: string): Promise<void> {
    const { random } = this.#options;
    await this.#pause(random.between(0, 300));
    const allow: JsonObject = { type: 'user.tool_confirmation', tool_use_id: id, result: 'allow' };
    const deny: JsonObject = { ...allow, result: 'deny', deny_message: 'Not this one.' };
    const result: JsonObject = {
      type: 'user.custom_tool_result',
      custom_tool_use_id: id,
      content: [{ type: 'text', text: `About ${id}.` }],
    };
    const isCustom = this.#isCustom.get(id) === true;
    const first = isCustom ? result : random.chance(0.15) ? deny : allow;
    // Two people may answer at once, each with a mind of their own: one of them is heard.
    const racers = random.chance(0.25) ? [first, isCustom ? result : deny] : [first];
    await Promise.all(racers.map((event) => this.#deliver(event, null, true)));
  }

  /** Where a stream did not show it, asking does. */
  async #lookForQuestions(): Promise<void> {
    const { ask, session } = this.#options;
    while (!this.#stopAll.signal.aborted) {
      await this.#pause(lookMs);
      const found = await ask('GET', `/v1/sessions/${session}`);
      if (found !== 'lost' && found.status === 200 && found.body.status === 'idle')
        this.#answerAll(found.body.stop_reason);
    }
  }

  async #send(): Promise<void> {
    const { random, session, wantsMore } = this.#options;
    while (!this.#stopSending.signal.aborted) {
      await this.#pause(random.between(50, 600), this.#stopSending.signal);
      if (this.#stopSending.signal.aborted || this.#waiting() >= maxWaiting) continue;
      if (!wantsMore()) return;
      const task = `${session.slice(-6)}-${++this.#tasks}`;
      const text = messageOf(task, random.between(stepsOfTask.from, stepsOfTask.to));
      // Most wait for their turn; some are heard in the middle of another.
      const delivery = random.chance(0.15) ? 'steer' : 'queue';
      const content = [{ type: 'text', text }];
      await this.#deliver({ type: 'user.message', content, delivery }, text, random.chance(0.7));
    }
  }

  /** Somebody changes their mind now and then. */
  async #interrupt(): Promise<void> {
    const { random } = this.#options;
    while (!this.#stopSending.signal.aborted) {
      await this.#pause(random.between(2_000, 9_000), this.#stopSending.signal);
      if (!this.#stopSending.signal.aborted) await this.#deliver({ type: 'user.interrupt' }, null, true);
    }
  }

  #waiting(): number {
    const known = this.inputs.flatMap((input) => (input.text === null ? [] : input.acknowledged.slice(0, 1)));
    return known.filter((id) => !this.#takenUp.has(id)).length;
  }

  /** With a key until there is an answer, now and then twice at once; without one exactly once. */
  async #deliver(event: JsonObject, text: string | null, hasKey: boolean): Promise<void> {
    this.#requests++;
    await this.#requestUntilDone(event, text, hasKey).finally(() => {
      this.#requests--;
    });
  }

  async #requestUntilDone(event: JsonObject, text: string | null, hasKey: boolean): Promise<void> {
    const { ask, random, session } = this.#options;
    const input: InputEvidence = { session, text, hasKey, requests: 0, acknowledged: [] };
    this.inputs.push(input);
    const key = hasKey ? randomUUID() : null;
    const request = async (): Promise<Asked> => {
      input.requests++;
      const options = { json: { events: [event] }, ...(key === null ? {} : { key }) };
      const asked = await ask('POST', `/v1/sessions/${session}/events`, options);
      const data = asked !== 'lost' && asked.status === 200 ? (asked.body.data as JsonObject[]) : [];
      for (const one of data) input.acknowledged.push(String(one.id));
      return asked;
    };
    if (!hasKey) return void (await request());
    const pause = (): Promise<void> => this.#pause(random.between(50, 400));
    const untilAnswered = () => insist(request, this.#stopAll.signal, pause);
    const answers = await Promise.all(
      random.chance(0.2) ? [untilAnswered(), untilAnswered()] : [untilAnswered()],
    );
    // A session that waits for an answer takes no message: later it does, under the same key.
    const isRefused = text !== null && answers.every((answer) => answer?.status === 400);
    if (isRefused) await this.#whenItRests(request);
    else if (random.chance(0.15)) await request();
  }

  async #whenItRests(request: () => Promise<Asked>): Promise<void> {
    const { random } = this.#options;
    while (!this.#stopAll.signal.aborted) {
      await this.#pause(random.between(100, 500));
      const asked = await request();
      if (asked !== 'lost' && !isPassing(asked) && asked.status !== 400) return;
    }
  }

  async #pause(ms: number, signal: AbortSignal = this.#stopAll.signal): Promise<void> {
    await sleep(ms, undefined, { signal }).catch(() => {});
  }
}
