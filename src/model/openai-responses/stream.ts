/**
 * Performs one call: sends exactly the rendered bytes through the official SDK and reads the stream to its end.
 *
 * Promises kept here
 * - The bytes on the wire are the rendered ones (L7). The SDK would serialise a body of its own; it gets a stub, and
 *   the `fetch` we hand it puts ours in its place.
 * - Whatever the provider or the network does is a value. Only a bug, ours or a listener's, rejects.
 * - After an abort nothing is listened to, and the connection is closed.
 */
import type OpenAI from 'openai';
import { failpoint, failpoints } from '../../protocol/failpoint.ts';
import { type Deadlines, type Watch, watchDeadlines } from '../deadlines.ts';
import type { CallOptions, ModelOutcome, Preview, RenderedRequest } from '../model.ts';
import { scrubItems, scrubPreview, scrubText } from '../scrub.ts';
import type { Transport } from '../transport.ts';
import { classify, type Failure, type Sdk } from './errors.ts';
import { completedOutcome, createReading, type Reading, readUsage } from './output.ts';

export type Connection = {
  apiKey: string;
  baseURL: string | null;
  transport: Transport;
  deadlines: Deadlines;
};

/** Longer than any of our own limits: the SDK's total limit would cut an answer that is still coming. */
const sdkTimeoutMs = 2 ** 31 - 1;

export async function performCall(
  sdk: Sdk,
  connection: Connection,
  rendered: RenderedRequest,
  options: CallOptions,
): Promise<ModelOutcome> {
  const { apiKey, deadlines } = connection;
  const fail = (failure: Failure, reading: Reading | null): ModelOutcome => ({
    status: 'failed',
    error: classify(failure, sdk, apiKey, Date.now()),
    usage: usageOf(reading),
  });
  if (options.signal.aborted) return fail({ type: 'aborted' }, null);

  const watch = watchDeadlines(deadlines, options.signal);
  const reading = createReading();
  const wire = { badBytes: false };
  const listen = listener(options, apiKey);
  try {
    const events = await openStream(sdk, connection, { rendered, watch, wire });
    await readStream(events, reading, listen, options.signal, watch);
  } catch (error) {
    if (listen.bug !== null) throw listen.bug.error;
    if (reading.ending() === null) return fail(failureOf(watch, options.signal, wire, error), reading);
    // The response was complete; how the connection ended afterwards does not matter.
  } finally {
    watch.stop(reading.ending() === null);
  }
  return settle(reading, (failure) => fail(failure, reading), { watch, options, wire, apiKey, rendered });
}

type Settling = {
  watch: Watch;
  options: CallOptions;
  wire: { badBytes: boolean };
  apiKey: string;
  rendered: RenderedRequest;
};

function settle(reading: Reading, fail: (failure: Failure) => ModelOutcome, call: Settling): ModelOutcome {
  const ending = reading.ending();
  if (ending === null) {
    // The SDK ends a stream quietly when it is aborted.
    return fail(failureOf(call.watch, call.options.signal, call.wire, null));
  }
  if (ending.type === 'failed')
    return fail({ type: 'response_failed', code: ending.code, message: ending.message });
  const outcome = completedOutcome(ending, scrubItems(reading.items(), call.apiKey), call.rendered.body);
  return {
    ...outcome,
    responseId: outcome.responseId === null ? null : scrubText(outcome.responseId, call.apiKey),
    servedModel: scrubText(outcome.servedModel, call.apiKey),
  };
}

/** Why a call ended early: our own reasons first, because they make the SDK throw all sorts of things. */
function failureOf(watch: Watch, signal: AbortSignal, wire: { badBytes: boolean }, error: unknown): Failure {
  if (signal.aborted) return { type: 'aborted' };
  const deadline = watch.expired();
  if (deadline !== null) return { type: 'deadline', deadline };
  if (wire.badBytes) return { type: 'bad_bytes' };
  return error === null ? { type: 'no_ending' } : { type: 'thrown', error };
}

function usageOf(reading: Reading | null): ReturnType<typeof readUsage> {
  const ending = reading?.ending() ?? null;
  return ending === null ? null : readUsage(ending.response);
}

type Listener = { tell: (previews: readonly Preview[]) => void; bug: { error: unknown } | null };

/** Keeps an exception of the listener apart from those of the provider. */
function listener(options: CallOptions, apiKey: string): Listener {
  const self: Listener = {
    bug: null,
    tell(previews) {
      for (const preview of previews) {
        try {
          options.onPreview(
            preview.type === 'text_delta'
              ? { ...preview, text: scrubPreview(preview.text, apiKey) }
              : preview,
          );
        } catch (error) {
          self.bug = { error };
          throw error;
        }
      }
    },
  };
  return self;
}

async function readStream(
  events: AsyncIterable<unknown>,
  reading: Reading,
  listen: Listener,
  signal: AbortSignal,
  watch: Watch,
): Promise<void> {
  for await (const event of events) {
    if (signal.aborted) return;
    if (reading.ending() !== null) continue;
    if (failpoints.on) await failpoint('model.mid-stream');
    listen.tell(reading.accept(event));
    // Leaving here would make the SDK destroy the connection; read to its end, so that the next call finds it open.
    if (reading.ending() !== null) watch.enter('drain');
  }
}

/** One call, as the client's `fetch` is handed it. */
type Call = { rendered: RenderedRequest; watch: Watch; wire: { badBytes: boolean } };

function openStream(sdk: Sdk, connection: Connection, call: Call): Promise<AsyncIterable<unknown>> {
  const client = clients.get(connection) ?? makeClient(sdk, connection);
  // Our member of the options comes back in what the client hands to `fetch`.
  const fetchOptions = { call } as object;
  return client.responses.create(
    { model: 'stub', input: [], stream: true },
    { signal: call.watch.signal, fetchOptions },
  );
}

/** One for all calls of a connection: to make a client costs more than to make a request. */
const clients = new WeakMap<Connection, OpenAI>();

function makeClient(sdk: Sdk, connection: Connection): OpenAI {
  const client = new sdk.OpenAI({
    apiKey: connection.apiKey,
    // What the environment says about accounts is not ours to pass on silently.
    organization: null,
    project: null,
    adminAPIKey: null,
    ...(connection.baseURL === null ? {} : { baseURL: connection.baseURL }),
    maxRetries: 0,
    timeout: sdkTimeoutMs,
    logLevel: 'off',
    fetch: async (url, init) => {
      const { call } = init as { call: Call };
      const { rendered, watch, wire } = call;
      watch.enter('connect');
      const response = await connection.transport({
        url: String(url instanceof Request ? url.url : url),
        method: init?.method ?? 'POST',
        headers: wireHeaders(init?.headers),
        body: rendered.body,
        // Not the client's: it follows ours, and where it goes ahead it cancels the body.
        signal: watch.signal,
        onConnected: () => watch.enter('first_byte'),
        onChunk: observer(watch, wire),
      });
      watch.enter('idle');
      return response;
    },
  });
  clients.set(connection, client);
  return client;
}

function wireHeaders(headers: ConstructorParameters<typeof Headers>[0]): Record<string, string> {
  const all = Object.fromEntries(new Headers(headers));
  // The SDK computed it for its own stub; the transport knows the true one.
  delete all['content-length'];
  return all;
}

/** Every chunk of a body is a sign of life, and every byte must be UTF-8. */
function observer(watch: Watch, wire: { badBytes: boolean }): (chunk: Uint8Array | null) => void {
  const validator = new TextDecoder('utf-8', { fatal: true });
  return (chunk) => {
    watch.alive();
    try {
      validator.decode(chunk ?? undefined, { stream: chunk !== null });
    } catch (error) {
      wire.badBytes = true;
      throw error;
    }
  };
}
