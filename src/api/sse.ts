/**
 * Server-sent events of one session (managed-agents-protocol.md §5.1).
 *
 * - L2: a frame is sent only after its event is in the log, read from there; nothing goes past the store.
 * - No gap: `id:` is the event's sequence. A connection begins at the head as it was when the request came, or after the
 *   position the client names, and then sends every visible event once, in order.
 * - Bounded: the reader pulls. While it takes nothing, nothing is read for it; previews are bounded (`PreviewQueue`);
 *   one that takes nothing for long is dropped and comes back with Last-Event-ID.
 */
import { errorEnvelope } from '../protocol/errors.ts';
import type { PreviewType } from '../protocol/previews.ts';
import type { Viewer } from './event-view.ts';
import { failureOf } from './failure.ts';
import { feedBatch } from './feed.ts';
import type { Shared } from './operation.ts';
import { PreviewQueue } from './preview-queue.ts';
import { piecesOf } from './stream-frames.ts';

export type StreamRequest = {
  session: string;
  /** Events after this sequence are sent. */
  after: number;
  viewer: Viewer;
  previews: ReadonlySet<PreviewType>;
  requestId: string;
};

export function eventStream(shared: Shared, request: StreamRequest): Response {
  const connection = new Connection(shared, request);
  return new Response(connection.body(), {
    headers: {
      'content-type': 'text/event-stream',
      'cache-control': 'no-cache, no-transform',
      // Proxies of the nginx family hold streams back otherwise.
      'x-accel-buffering': 'no',
    },
  });
}

class Connection {
  readonly #shared: Shared;
  readonly #request: StreamRequest;
  readonly #previews: PreviewQueue;
  readonly #unsubscribe: (() => void)[] = [];
  readonly #encoder = new TextEncoder();
  #position: number;
  /** There may be events after `#position`; true at first, for the backlog. */
  #hasNews = true;
  #isOver = false;
  /** Counts what the reader asked for, to see that it still asks. */
  #pulls = 0;
  #wake: () => void = () => {};

  constructor(shared: Shared, request: StreamRequest) {
    this.#shared = shared;
    this.#request = request;
    this.#position = request.after;
    this.#previews = new PreviewQueue(request.previews, shared.limits.previewFrames);
  }

  body(): ReadableStream<Uint8Array> {
    const frames = this.#frames();
    this.#listen();
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          this.#pulls += 1;
          const text = await this.#next(frames);
          if (text !== null) controller.enqueue(this.#encoder.encode(text));
          if (text !== null && !this.#isOver) return this.#dropWhenStalled(controller);
          this.#end();
          controller.close();
        },
        cancel: () => this.#end(),
      },
      new ByteLengthQueuingStrategy({ highWaterMark: 65_536 }),
    );
  }

  /** The next text to send, or null at the end. A failure inside is the last frame: SDKs throw it to their caller. */
  async #next(frames: AsyncGenerator<string, void, void>): Promise<string | null> {
    try {
      const next = await frames.next();
      return next.done ? null : next.value;
    } catch (error) {
      this.#isOver = true;
      const { deps } = this.#shared;
      const envelope = errorEnvelope(
        failureOf(error, deps, this.#request.requestId),
        this.#request.requestId,
      );
      return `event: error\ndata: ${JSON.stringify(envelope)}\n\n`;
    }
  }

  async *#frames(): AsyncGenerator<string, void, void> {
    // A first byte makes every server and proxy send the headers now.
    yield ': connected\n\n';
    while (!this.#isOver) {
      // Events before previews: the start of a span is in the log before its first token.
      yield* this.#committed();
      if (this.#isOver) return;
      const previews = this.#previews.take();
      if (previews.length > 0) {
        yield previews.map((frame) => `event: ${frame.type}\ndata: ${JSON.stringify(frame)}\n\n`).join('');
        continue;
      }
      if (!this.#hasNews && (await this.#news()) === 'quiet') yield ': \n\n';
    }
  }

  async *#committed(): AsyncGenerator<string, void, void> {
    const { deps, feed } = this.#shared;
    while (this.#hasNews && !this.#isOver) {
      // Lowered before the read: an append that the read does not see raises it again.
      this.#hasNews = false;
      const events = await feed.read(this.#request.session, this.#position);
      if (events.length === feedBatch) this.#hasNews = true;
      for (const piece of await piecesOf(deps.store, events, this.#request.viewer)) {
        for (const id of piece.shown) this.#previews.finish(id);
        this.#position = piece.seq;
        if (piece.text !== '') yield piece.text;
        if (piece.isEnd) {
          this.#isOver = true;
          return;
        }
      }
    }
  }

  #listen(): void {
    const { deps, feed } = this.#shared;
    const { session, previews } = this.#request;
    this.#unsubscribe.push(
      feed.watch(session, () => {
        this.#hasNews = true;
        this.#wake();
      }),
    );
    if (previews.size > 0) {
      this.#unsubscribe.push(
        deps.previews.subscribe(session, (frame) => {
          if (this.#previews.push(frame)) this.#wake();
        }),
      );
    }
    const onClosing = () => this.#end();
    deps.closing?.addEventListener('abort', onClosing);
    this.#unsubscribe.push(() => deps.closing?.removeEventListener('abort', onClosing));
  }

  /** Resolves when there is something new, or after a heartbeat's silence. */
  async #news(): Promise<'news' | 'quiet'> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve('quiet'), this.#shared.limits.heartbeatMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve('news');
      };
      if (this.#isOver) this.#wake();
    });
  }

  #dropWhenStalled(controller: ReadableStreamDefaultController<Uint8Array>): void {
    const pulls = this.#pulls;
    if ((controller.desiredSize ?? 0) > 0) return;
    const { stalledReaderMs } = this.#shared.limits;
    const timer = setTimeout(() => {
      if (this.#isOver || this.#pulls !== pulls) return;
      this.#end();
      controller.error(
        new SlowReader(`a stream's reader took nothing for ${stalledReaderMs} ms and was dropped`),
      );
    }, stalledReaderMs);
    timer.unref();
  }

  #end(): void {
    this.#isOver = true;
    for (const unsubscribe of this.#unsubscribe.splice(0)) unsubscribe();
    this.#wake();
  }
}

/** Ends the connection where an orderly end would wait for the reader too. Not a bug, so it is no place to trace. */
class SlowReader extends Error {
  override name = 'SlowReader';
  override stack = '';
}
