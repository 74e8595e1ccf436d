/**
 * What a model costs, and what a call did cost. Money is integer millionths of a dollar, rounded up.
 *
 * Promises kept here
 * - G3: an unknown price is null, never zero, and never the price of a model with a similar name: only an exact id, a
 *   listed alias, or either with a date suffix (`-2026-04-23`) is known.
 */
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { TokenUsage } from '../session/model-request.ts';
import type { Price, Rates } from './model.ts';
import { type PriceEntry, priceEntries } from './price-list.ts';

export type PriceList = { find: (model: string) => PriceEntry | null };

export function createPriceList(entries: readonly PriceEntry[]): PriceList {
  const byId = new Map<string, PriceEntry>();
  for (const entry of entries) for (const id of [entry.model, ...(entry.aliases ?? [])]) byId.set(id, entry);
  return { find: (model) => byId.get(model) ?? byId.get(withoutDate(model)) ?? null };
}

export const builtInPrices: PriceList = createPriceList(priceEntries);

function withoutDate(model: string): string {
  return model.replace(/-20\d\d-[01]\d-[0-3]\d$/, '');
}

const dollars = z.number().min(0).max(100_000);

const entrySchema = z.strictObject({
  model: z.string().min(1),
  aliases: z.array(z.string().min(1)).optional(),
  inputPerMillion: dollars,
  cachedInputPerMillion: dollars,
  cacheWritePerMillion: dollars.optional(),
  outputPerMillion: dollars,
  longContext: z
    .strictObject({
      aboveInputTokens: z.int().min(1),
      inputFactor: z.number().min(1),
      outputFactor: z.number().min(1),
    })
    .optional(),
  source: z.string().min(1),
  asOf: z.iso.date(),
});

const fileSchema = z.strictObject({ prices: z.array(entrySchema) });

/**
 * The built-in list with the entries of a JSON file, `{"prices": [...]}`, in front. Throws on a file that is not one:
 * a wrong price list must stop the start, not the accounting.
 */
export function loadPriceList(path: string): PriceList {
  const { prices } = fileSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  const own = createPriceList(prices.map(withoutUndefined));
  return { find: (model) => own.find(model) ?? builtInPrices.find(model) };
}

function withoutUndefined(entry: z.infer<typeof entrySchema>): PriceEntry {
  const { aliases, cacheWritePerMillion, longContext, ...rest } = entry;
  return {
    ...rest,
    ...(aliases === undefined ? {} : { aliases }),
    ...(cacheWritePerMillion === undefined ? {} : { cacheWritePerMillion }),
    ...(longContext === undefined ? {} : { longContext }),
  };
}

export function priceOf(model: string, list: PriceList = builtInPrices): Price | null {
  const entry = list.find(model);
  return entry === null ? null : toPrice(entry);
}

function toPrice(entry: PriceEntry): Price {
  const rates = toRates(entry, 1, 1);
  if (entry.longContext === undefined) return rates;
  const { aboveInputTokens, inputFactor, outputFactor } = entry.longContext;
  return { ...rates, longContext: { aboveInputTokens, ...toRates(entry, inputFactor, outputFactor) } };
}

function toRates(entry: PriceEntry, inputFactor: number, outputFactor: number): Rates {
  const write = entry.cacheWritePerMillion ?? entry.inputPerMillion;
  return {
    inputMicrosPerMillion: micros(entry.inputPerMillion * inputFactor),
    cacheReadMicrosPerMillion: micros(entry.cachedInputPerMillion * inputFactor),
    cacheWriteMicrosPerMillion: micros(write * inputFactor),
    outputMicrosPerMillion: micros(entry.outputPerMillion * outputFactor),
  };
}

/** Prices have at most six decimals; rounding takes away only what binary fractions added. */
function micros(amount: number): number {
  return Math.round(amount * 1_000_000);
}

export function costMicros(price: Price, usage: TokenUsage): number {
  const rates = ratesFor(price, usage.inputTokens + usage.cacheReadTokens + usage.cacheWriteTokens);
  return roundedUp(
    product(usage.inputTokens, rates.inputMicrosPerMillion) +
      product(usage.cacheReadTokens, rates.cacheReadMicrosPerMillion) +
      product(usage.cacheWriteTokens, rates.cacheWriteMicrosPerMillion) +
      product(usage.outputTokens, rates.outputMicrosPerMillion),
  );
}

/** What a call can cost at most: for a reservation, before anyone knows what is cached. */
export function worstCaseMicros(price: Price, inputTokens: number, outputTokens: number): number {
  const rates = ratesFor(price, inputTokens);
  const { inputMicrosPerMillion, cacheReadMicrosPerMillion, cacheWriteMicrosPerMillion } = rates;
  const dearest = Math.max(inputMicrosPerMillion, cacheReadMicrosPerMillion, cacheWriteMicrosPerMillion);
  return roundedUp(product(inputTokens, dearest) + product(outputTokens, rates.outputMicrosPerMillion));
}

function ratesFor(price: Price, inputTokens: number): Rates {
  const { longContext } = price;
  return longContext !== undefined && inputTokens > longContext.aboveInputTokens ? longContext : price;
}

/** In whole numbers of any size: a product of large counts leaves the safe range of a double. */
function product(tokens: number, microsPerMillion: number): bigint {
  return BigInt(tokens) * BigInt(microsPerMillion);
}

function roundedUp(microsTimesMillion: bigint): number {
  return Number((microsTimesMillion + 999_999n) / 1_000_000n);
}
