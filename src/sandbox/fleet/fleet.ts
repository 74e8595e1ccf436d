/**
 * The Executor port over many hosts: every session has its disk on one of them, and what is asked about a session goes
 * there.
 *
 * Promises
 * - A session's place is chosen once, at its first sandbox, where the fewest run; after that it is what the log says
 *   (`locate`, `SandboxSpec.host`). A place that is not connected is `HostAway`, never another place: a call that may have
 *   begun there must not begin a second time elsewhere (L6).
 * - S5: the disk of a session is removed where the log has it, and wherever else one was begun before its engine died.
 * - A host that does not answer for `silentMs` is cut off; what waited for it learns so (`HostUnreachable`).
 */
import type {
  CallRef,
  CheckpointRef,
  Edit,
  Executor,
  SandboxInfo,
  SandboxSpec,
  StartProcess,
} from '../executor.ts';
import { HostAway, HostUnreachable, isRefusal, type Refusal } from '../executor.ts';
import type { HostHello } from '../host/wire.ts';
import type { Layers, LayerView } from '../image/layers.ts';

/** A connected host: the port, and what it says of itself. */
export type FleetHost = Executor & Layers & { hello(): Promise<HostHello>; close(): Promise<void> };

export type HostView = { id: string; isConnected: boolean; sandboxes: number; lastSeenMs: number };

type Member = {
  id: string;
  client: FleetHost | null;
  sandboxes: number;
  /** A host of our own, which its client finds or starts again: it is never given up. */
  isOurs: boolean;
  /** Sandboxes started here since it last counted. */
  added: number;
  lastSeenMs: number;
};

type Options = { nowMs?: () => number; pingMs?: number; silentMs?: number };
type InSandbox = { session: string; fence: number };

const defaultPingMs = 3_000;
const defaultSilentMs = 12_000;
/** Places remembered; one that is forgotten is told again by whoever folded the log. */
const maxPlaces = 50_000;

export class Fleet implements Executor, Layers {
  readonly #members = new Map<string, Member>();
  readonly #places = new Map<string, string>();
  readonly #nowMs: () => number;
  readonly #bornMs: number;
  readonly #silentMs: number;
  readonly #timer: NodeJS.Timeout;

  constructor({ nowMs = Date.now, pingMs = defaultPingMs, silentMs = defaultSilentMs }: Options = {}) {
    this.#nowMs = nowMs;
    this.#bornMs = nowMs();
    this.#silentMs = silentMs;
    this.#timer = setInterval(() => this.#pingAll(), pingMs).unref();
  }

  /** A host has connected, or has connected anew: the older connection of the same id is let go. */
  add(hello: HostHello, client: FleetHost, { isOurs = false } = {}): void {
    const before = this.#members.get(hello.hostId);
    if (before?.client && before.client !== client) void before.client.close();
    const { hostId: id, sandboxes } = hello;
    this.#members.set(id, { id, client, isOurs, sandboxes, added: 0, lastSeenMs: this.#nowMs() });
  }

  /** Its connection is gone. It stays known, for whoever asks when it was last there. */
  drop(id: string, client: FleetHost): void {
    const member = this.#members.get(id);
    if (member?.client !== client) return;
    member.client = null;
    void client.close();
  }

  /** Ends the connections of all hosts that came with the token of this name. */
  cut(name: string): void {
    for (const { id, client } of this.#members.values())
      if (client !== null && id.startsWith(`${name}~`)) this.drop(id, client);
  }

  hosts(): HostView[] {
    return [...this.#members.values()].map(({ id, client, sandboxes, added, lastSeenMs }) => ({
      id,
      isConnected: client !== null,
      sandboxes: sandboxes + added,
      lastSeenMs,
    }));
  }

  /** The same, with a host of our own asked: it is looked after only when somebody needs it. */
  async hostsNow(): Promise<HostView[]> {
    const ours = [...this.#members.values()].filter(({ isOurs }) => isOurs);
    await Promise.all(ours.map((member) => member.client && this.#ping(member, member.client)));
    return this.hosts();
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all([...this.#members.values()].map(({ client }) => client?.close()));
  }

  #pingAll(): void {
    for (const member of this.#members.values())
      if (member.client !== null && !member.isOurs) void this.#ping(member, member.client);
  }

  async #ping(member: Member, client: FleetHost): Promise<void> {
    const tooLong = setTimeout(() => member.isOurs || this.drop(member.id, client), this.#silentMs);
    try {
      const { sandboxes } = await client.hello();
      if (member.client === client) Object.assign(member, { sandboxes, added: 0, lastSeenMs: this.#nowMs() });
    } catch (error) {
      if (!(error instanceof HostUnreachable)) throw error;
    } finally {
      clearTimeout(tooLong);
    }
  }

  locate(session: string, host: string | null): void {
    if (host === null) {
      this.#places.delete(session);
      return;
    }
    this.#places.set(session, host);
    if (this.#places.size > maxPlaces) this.#places.delete(this.#places.keys().next().value as string);
  }

  #at(id: string): FleetHost {
    const member = this.#members.get(id);
    if (member?.client) return member.client;
    throw new HostAway(id, this.#nowMs() - (member?.lastSeenMs ?? this.#bornMs));
  }

  /** Without a known place a session has no sandbox yet, and any host says so. */
  #of(session: string): FleetHost {
    const place = this.#places.get(session);
    return this.#at(place ?? this.#leastLoaded());
  }

  /**
   * Where the first sandbox of a session goes: of the connected hosts that suit, the one where the fewest run. Null where
   * none suits; rejects with `HostAway` where none is connected. Nothing is begun: the log has to say it first (L6).
   */
  choose(session: string, suits: (host: string) => boolean): string | null {
    const place = this.#places.get(session) ?? this.#least(suits)?.id ?? null;
    if (place === null) this.#leastLoaded();
    return place;
  }

  /** Throws `HostAway` where it is not connected. */
  check(id: string): void {
    this.#at(id);
  }

  #leastLoaded(): string {
    const least = this.#least(() => true);
    if (least === null) throw new HostAway(null, this.#nowMs() - this.#lastSeenMs());
    return least.id;
  }

  #least(suits: (host: string) => boolean): Member | null {
    let least: Member | null = null;
    for (const member of this.#members.values()) {
      if (member.client === null || !suits(member.id)) continue;
      if (least === null || member.sandboxes + member.added < least.sandboxes + least.added) least = member;
    }
    return least;
  }

  #lastSeenMs(): number {
    return Math.max(this.#bornMs, ...[...this.#members.values()].map(({ lastSeenMs }) => lastSeenMs));
  }

  async createSandbox(spec: SandboxSpec): Promise<SandboxInfo | Refusal> {
    const { host, ...rest } = spec;
    const id = host ?? this.#places.get(spec.session) ?? this.#leastLoaded();
    this.locate(spec.session, id);
    const client = this.#at(id);
    const member = this.#members.get(id);
    // Counted before it is there, or a burst would go to one host.
    if (member) member.added++;
    const info = await client.createSandbox(rest);
    if (member && (isRefusal(info) || info.reused)) member.added = Math.max(0, member.added - 1);
    return isRefusal(info) ? info : { ...info, host: id };
  }

  async destroySandbox(
    request: InSandbox & { removeDisk: boolean },
  ): Promise<Record<string, never> | Refusal> {
    const place = this.#places.get(request.session);
    if (!request.removeDisk && place !== undefined) return this.#at(place).destroySandbox(request);
    if (place !== undefined) this.#at(place);
    const connected = [...this.#members.values()].flatMap(({ client }) => client ?? []);
    if (connected.length === 0) throw new HostUnreachable('no sandbox host is connected');
    const answers = await Promise.all(connected.map((client) => client.destroySandbox(request)));
    const refused = answers.find((answer) => isRefusal(answer));
    if (refused === undefined) this.locate(request.session, null);
    return refused ?? {};
  }

  /** On no certain host: any that has it, or the one where the fewest sandboxes run. */
  async findLayer(request: { recipe: string; host: string | null }) {
    const ids = request.host === null ? this.#connected() : [request.host];
    const found = await Promise.all(
      ids.map(async (host) => ({ ...(await this.#at(host).findLayer(request)), host })),
    );
    const first = found.find(({ layer }) => layer !== null);
    return first ?? { host: request.host ?? this.#leastLoaded(), layer: null, lock: null };
  }

  async sealLayer(request: Parameters<Layers['sealLayer']>[0]) {
    return this.#of(request.session).sealLayer(request);
  }

  async listLayers(): Promise<(LayerView & { host: string })[]> {
    const ids = this.#connected();
    const lists = await Promise.all(
      ids.map(async (host) => (await this.#at(host).listLayers()).map((one) => ({ ...one, host }))),
    );
    return lists.flat();
  }

  async removeUnusedLayers(request: { olderThanMs: number }) {
    const all = await Promise.all(
      this.#connected().map((host) => this.#at(host).removeUnusedLayers(request)),
    );
    return { removed: all.flatMap(({ removed }) => removed) };
  }

  #connected(): string[] {
    return [...this.#members.values()].flatMap(({ id, client }) => (client === null ? [] : [id]));
  }

  async startProcess(request: StartProcess) {
    return this.#of(request.session).startProcess(request);
  }

  async readProcess(request: CallRef & { afterSeq: number; maxBytes: number; waitMs: number }) {
    return this.#of(request.session).readProcess(request);
  }

  async terminateProcess(request: CallRef) {
    return this.#of(request.session).terminateProcess(request);
  }

  async callStatus(request: CallRef) {
    return this.#of(request.session).callStatus(request);
  }

  async readFile(request: InSandbox & { path: string; offset?: number; maxBytes: number }) {
    return this.#of(request.session).readFile(request);
  }

  async stat(request: InSandbox & { path: string }) {
    return this.#of(request.session).stat(request);
  }

  async walk(
    request: InSandbox & { path: string; skipDirectories: string[]; maxEntries: number; maxDepth: number },
  ) {
    return this.#of(request.session).walk(request);
  }

  async applyEdits(request: CallRef & { edits: Edit[] }) {
    return this.#of(request.session).applyEdits(request);
  }

  async putUpload(request: InSandbox & { name: string; offset: number; data: Uint8Array }) {
    return this.#of(request.session).putUpload(request);
  }

  async checkpoint(request: InSandbox & { checkpoint: string }) {
    return this.#of(request.session).checkpoint(request);
  }

  /** A session without a disk gets it where the checkpoint is. */
  async restore(request: CallRef & { from: CheckpointRef }) {
    const { session, from } = request;
    const place = this.#places.get(session) ?? this.#places.get(from.session) ?? this.#leastLoaded();
    this.locate(session, place);
    return this.#at(place).restore(request);
  }

  async removeCheckpoint(request: InSandbox & { checkpoint: string }) {
    return this.#of(request.session).removeCheckpoint(request);
  }

  async checkpoints(request: InSandbox) {
    return this.#of(request.session).checkpoints(request);
  }

  async readCheckpoint(request: InSandbox & { checkpoint: string; offset: number; maxBytes: number }) {
    return this.#of(request.session).readCheckpoint(request);
  }

  /** The first piece of an import may be the first that a host hears of the session: it stays there. */
  async writeCheckpoint(
    request: InSandbox & { checkpoint: string; offset: number; data: Uint8Array; isLast: boolean },
  ) {
    const place = this.#places.get(request.session) ?? this.#leastLoaded();
    this.locate(request.session, place);
    return this.#at(place).writeCheckpoint(request);
  }
}
