/**
 * List prices in dollars per million tokens, standard tier, global processing. Each entry says where it was read, and
 * the last date on which that source is known to have said so. A model that could not be verified is not here: it has no price, and so cannot run under a money budget (G3).
 * Operators override or add entries with a JSON file of the same shape (`prices.ts`).
 *
 * Promotions are left out on purpose: a cap must hold on the day after one ends. Regional processing (+10 %) and the
 * fast and ultrafast tiers are dearer than what stands here; who uses them overrides the entry.
 */

export type PriceEntry = {
  model: string;
  /** Other ids that the provider documents as the same model. */
  aliases?: string[];
  inputPerMillion: number;
  cachedInputPerMillion: number;
  /** Default: the price of input, for models that bill cache writes as such. */
  cacheWritePerMillion?: number;
  outputPerMillion: number;
  /** Rates of a whole request with more input than this; cached and written input have the factor of input. */
  longContext?: { aboveInputTokens: number; inputFactor: number; outputFactor: number };
  source: string;
  asOf: string;
};

const longContext = { aboveInputTokens: 272_000, inputFactor: 2, outputFactor: 1.5 };
const models = 'https://developers.openai.com/api/docs/models';
const copilot = 'https://github.com/github/docs/blob/main/data/tables/copilot/models-and-pricing.yml';

export const priceEntries: readonly PriceEntry[] = [
  {
    // Fictitious: what the rehearsal, the demo and the tests pay.
    model: 'rehearsal-1',
    inputPerMillion: 1,
    cachedInputPerMillion: 0.1,
    cacheWritePerMillion: 1,
    outputPerMillion: 4,
    source: 'fictitious, docs/design/model.md',
    asOf: '2026-11-20',
  },
  {
    model: 'gpt-6.1-sol',
    inputPerMillion: 2,
    cachedInputPerMillion: 0.1,
    cacheWritePerMillion: 2.5,
    outputPerMillion: 10,
    longContext,
    source: `${models}/gpt-6.1-sol (as quoted by w3cschool.cn and litellm.ai)`,
    asOf: '2026-10-26',
  },
  {
    model: 'gpt-6.1-terra',
    inputPerMillion: 1,
    cachedInputPerMillion: 0.05,
    cacheWritePerMillion: 1.25,
    outputPerMillion: 5,
    longContext,
    source: `${models}/gpt-6.1-terra (as quoted by apidog.com and litellm.ai)`,
    asOf: '2026-10-26',
  },
  {
    model: 'gpt-6-astra',
    inputPerMillion: 10,
    cachedInputPerMillion: 1,
    cacheWritePerMillion: 12.5,
    outputPerMillion: 50,
    longContext,
    source: `${models}/gpt-6-astra (as quoted by litellm.ai and apidog.com)`,
    asOf: '2026-09-05',
  },
  {
    model: 'gpt-6-sol',
    inputPerMillion: 2,
    cachedInputPerMillion: 0.2,
    cacheWritePerMillion: 2.5,
    outputPerMillion: 10,
    longContext,
    source: `${models}/gpt-6-sol (as quoted by apidog.com and litellm.ai)`,
    asOf: '2026-09-30',
  },
  {
    model: 'gpt-6-luna',
    inputPerMillion: 0.1,
    cachedInputPerMillion: 0.01,
    cacheWritePerMillion: 0.125,
    outputPerMillion: 0.5,
    longContext,
    source: `${models}/gpt-6-luna`,
    asOf: '2026-09-22',
  },
  {
    // Listed at 4 / 0.4 / 20 "at least until 2026-11-21"; this is the price before and after.
    model: 'gpt-5.6-sol',
    aliases: ['gpt-5.6'],
    inputPerMillion: 5,
    cachedInputPerMillion: 0.5,
    cacheWritePerMillion: 6.25,
    outputPerMillion: 30,
    longContext,
    source: `${models}/gpt-5.6-sol and ${copilot}`,
    asOf: '2026-08-20',
  },
  {
    model: 'gpt-5.6-terra',
    inputPerMillion: 2,
    cachedInputPerMillion: 0.2,
    cacheWritePerMillion: 2.5,
    outputPerMillion: 12,
    longContext,
    source: `${models}/gpt-5.6-terra`,
    asOf: '2026-07-30',
  },
  {
    model: 'gpt-5.6-luna',
    inputPerMillion: 0.2,
    cachedInputPerMillion: 0.02,
    cacheWritePerMillion: 0.25,
    outputPerMillion: 1.2,
    // The page says 272K, one reseller 200K; the lower threshold never undercounts.
    longContext: { ...longContext, aboveInputTokens: 200_000 },
    source: `${models}/gpt-5.6-luna and ${copilot}`,
    asOf: '2026-07-30',
  },
  {
    model: 'gpt-5.5',
    inputPerMillion: 5,
    cachedInputPerMillion: 0.5,
    outputPerMillion: 30,
    longContext,
    source: `https://developers.openai.com/docs/models and ${copilot}`,
    asOf: '2026-07-30',
  },
  {
    model: 'gpt-5.4',
    inputPerMillion: 2.5,
    cachedInputPerMillion: 0.25,
    outputPerMillion: 15,
    longContext,
    source: `https://developers.openai.com/docs/models and ${copilot}`,
    asOf: '2026-07-30',
  },
  {
    model: 'gpt-5.4-mini',
    inputPerMillion: 0.75,
    cachedInputPerMillion: 0.075,
    outputPerMillion: 4.5,
    source: `https://developers.openai.com/docs/models and ${copilot}`,
    asOf: '2026-07-30',
  },
  {
    model: 'gpt-5.4-nano',
    inputPerMillion: 0.2,
    cachedInputPerMillion: 0.02,
    outputPerMillion: 1.25,
    source: copilot,
    asOf: '2026-07-30',
  },
  {
    model: 'gpt-5.3-codex',
    inputPerMillion: 1.75,
    cachedInputPerMillion: 0.175,
    outputPerMillion: 14,
    source: copilot,
    asOf: '2026-07-30',
  },
  {
    model: 'gpt-5.2',
    aliases: ['gpt-5.2-codex'],
    inputPerMillion: 1.75,
    cachedInputPerMillion: 0.175,
    outputPerMillion: 14,
    source: copilot,
    asOf: '2026-03-05',
  },
  {
    model: 'gpt-5-mini',
    inputPerMillion: 0.25,
    cachedInputPerMillion: 0.025,
    outputPerMillion: 2,
    source: copilot,
    asOf: '2026-07-30',
  },
  {
    model: 'gpt-5-nano',
    inputPerMillion: 0.05,
    cachedInputPerMillion: 0.005,
    outputPerMillion: 0.4,
    source: `${models}/gpt-5-nano`,
    asOf: '2026-08-01',
  },
  {
    model: 'gpt-5',
    inputPerMillion: 1.25,
    cachedInputPerMillion: 0.125,
    outputPerMillion: 10,
    source: `${models}/gpt-5-codex (comparison table) and docs.apiyi.com`,
    asOf: '2026-06-01',
  },
  {
    model: 'gpt-5.1',
    inputPerMillion: 1.25,
    cachedInputPerMillion: 0.125,
    outputPerMillion: 10,
    source: 'docs.apiyi.com (input) and deploybase.ai (output), both quoting the official page',
    asOf: '2026-06-01',
  },
];
