/**
 * Which model an id means. Today every id goes to the OpenAI Responses wire; another base URL is another peer that
 * speaks it (a proxy, a compatible server, the rehearsal).
 */
import type { Deadlines } from './deadlines.ts';
import type { Model } from './model.ts';
import { createOpenAiResponses } from './openai-responses/index.ts';

export type ModelConfig = {
  /** OPENAI_API_KEY. */
  apiKey: string | null;
  /** OPENAI_BASE_URL; null for the provider's own. */
  baseURL?: string | null;
  deadlines?: Partial<Deadlines>;
  fetch?: typeof fetch;
};

export type Unknown = { unknown: string };

export function isUnknown(found: Model | Unknown): found is Unknown {
  return 'unknown' in found;
}

// One model per configuration: it holds the connections and the renderers of all sessions.
const built = new WeakMap<ModelConfig, Model>();

/** The model, or why there is none, in words for the one who asked for it. */
export function modelFor(id: string, config: ModelConfig): Model | Unknown {
  if (id.trim() === '') return { unknown: 'no model is named' };
  if (config.apiKey === null || config.apiKey === '') {
    return { unknown: `the model ${JSON.stringify(id)} needs OPENAI_API_KEY, which is not set` };
  }
  let model = built.get(config);
  if (model === undefined) {
    model = createOpenAiResponses({ ...config, apiKey: config.apiKey });
    built.set(config, model);
  }
  return model;
}

export function modelConfigOf(environment: Readonly<Record<string, string | undefined>>): ModelConfig {
  return {
    apiKey: environment.OPENAI_API_KEY ?? null,
    baseURL: environment.OPENAI_BASE_URL || null,
  };
}
