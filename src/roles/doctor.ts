import type { ModelConfig } from '../model/catalogue.ts';
import type { JsonObject } from '../protocol/json.ts';
import { version } from './version.ts';

/** What this machine can isolate and what is configured, with a remedy for each lack. No server need run. */
export async function doctor(about: { dataDir: string; model: ModelConfig }): Promise<JsonObject> {
  // Only asked for by people: nothing of it is loaded before.
  const { probe } = await import('../sandbox/probe.ts');
  const hasKey = about.model.apiKey !== null;
  const model: JsonObject = {
    check: 'model key',
    ok: hasKey,
    found: hasKey
      ? `set; requests go to ${about.model.baseURL ?? 'the provider itself'}`
      : 'OPENAI_API_KEY is not set',
    remedy: hasKey
      ? null
      : 'Set OPENAI_API_KEY (and OPENAI_BASE_URL for a compatible server) where the server starts.',
  };
  return { version, checks: [...(await probe({ dataDir: about.dataDir })), model] };
}
