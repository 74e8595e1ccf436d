/**
 * The OpenAI Responses wire. Stateless on the provider's side (`store: false`): the log is the only memory (L1), and
 * reasoning travels as encrypted content inside it.
 */

import { failpoint, failpoints } from '../../protocol/failpoint.ts';
import type { RequestPrefix } from '../../session/model-request.ts';
import { type Deadlines, defaultDeadlines } from '../deadlines.ts';
import type { Model } from '../model.ts';
import { createTransport, transportOf } from '../transport.ts';
import type { Sdk } from './errors.ts';
import { createRenderer, type Renderer, wire } from './request.ts';
import { type Connection, performCall } from './stream.ts';

export { createRenderer, type Renderer, renderRequest, wire } from './request.ts';

export type OpenAiResponsesOptions = {
  apiKey: string;
  /** Null for the provider's own address. */
  baseURL?: string | null;
  /** Replaces our HTTP, for a test or an egress of the customer. */
  fetch?: typeof fetch;
  deadlines?: Partial<Deadlines>;
  /** Whose items these are: encrypted reasoning is bound to it. Default `openai`. */
  provider?: string;
};

export function createOpenAiResponses(options: OpenAiResponsesOptions): Model {
  const origin = { provider: options.provider ?? 'openai' };
  const connection: Connection = {
    apiKey: options.apiKey,
    baseURL: options.baseURL ?? null,
    transport: options.fetch === undefined ? createTransport() : transportOf(options.fetch),
    deadlines: { ...defaultDeadlines, ...options.deadlines },
  };
  // One renderer for each prefix object, for as long as the session that holds it is in memory.
  const renderers = new WeakMap<RequestPrefix, Renderer>();

  return {
    provider: origin.provider,
    wire,
    render(request, limits) {
      let renderer = renderers.get(request.prefix);
      if (renderer === undefined) {
        renderer = createRenderer(request.prefix, origin);
        renderers.set(request.prefix, renderer);
      }
      return renderer.render(request.history, limits);
    },
    async call(rendered, callOptions) {
      const sdk = await loadSdk();
      if (failpoints.on) await failpoint('model.before-request');
      const outcome = await performCall(sdk, connection, rendered, callOptions);
      if (failpoints.on) await failpoint('model.after-response');
      return outcome;
    },
  };
}

let loading: Promise<Sdk> | null = null;

/** The SDK costs over 100 ms to load; nobody pays for it who makes no call. */
function loadSdk(): Promise<Sdk> {
  loading ??= import('openai').then(({ OpenAI }) => ({ OpenAI }));
  return loading;
}

/** Loads the SDK ahead of the first call. */
export async function warmUp(): Promise<void> {
  await loadSdk();
}
