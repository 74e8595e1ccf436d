import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { TokenUsage } from '../session/model-request.ts';
import { priceEntries } from './price-list.ts';
import { builtInPrices, costMicros, loadPriceList, priceOf, worstCaseMicros } from './prices.ts';

const usage: TokenUsage = { inputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0, outputTokens: 0 };

function known(model: string): NonNullable<ReturnType<typeof priceOf>> {
  const price = priceOf(model);
  if (price === null) throw new Error(`${model} has no price`);
  return price;
}

function withFile<Result>(content: string, use: (path: string) => Result): Result {
  const directory = mkdtempSync(join(tmpdir(), 'prices-'));
  const path = join(directory, 'prices.json');
  writeFileSync(path, content);
  try {
    return use(path);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

describe('the price of a model', () => {
  it('is unknown, not zero and not that of a similar name, for a model that is not listed', () => {
    for (const model of [
      '',
      'gpt-7',
      'gpt-5.4-mini-turbo',
      'xgpt-5.4',
      'gpt-5.4-2026',
      'gpt-5.4-pro',
      'GPT-5.4',
    ]) {
      expect(priceOf(model)).toBeNull();
    }
  });

  it('is found by id, by documented alias and by dated snapshot', () => {
    expect(priceOf('gpt-5.4-mini-2026-03-17')).toEqual(known('gpt-5.4-mini'));
    expect(priceOf('gpt-5.6')).toEqual(known('gpt-5.6-sol'));
    expect(known('rehearsal-1')).toEqual({
      inputMicrosPerMillion: 1_000_000,
      cacheReadMicrosPerMillion: 100_000,
      cacheWriteMicrosPerMillion: 1_000_000,
      outputMicrosPerMillion: 4_000_000,
    });
  });

  it('never lists one id twice, nor an entry without its source and date', () => {
    const ids = priceEntries.flatMap((entry) => [entry.model, ...(entry.aliases ?? [])]);
    expect(new Set(ids).size).toBe(ids.length);
    for (const entry of priceEntries) {
      expect(entry.source).not.toBe('');
      expect(entry.asOf).toMatch(/^\d{4}-\d\d-\d\d$/);
      expect(entry.cachedInputPerMillion).toBeLessThanOrEqual(entry.inputPerMillion);
    }
  });

  it('comes from the operator’s file first, and a file that is not a price list stops the start', () => {
    const entry = { model: 'gpt-5.4', inputPerMillion: 9, cachedInputPerMillion: 3, outputPerMillion: 27 };
    const text = JSON.stringify({ prices: [{ ...entry, source: 'contract', asOf: '2026-11-01' }] });
    withFile(text, (path) => {
      const list = loadPriceList(path);
      expect(priceOf('gpt-5.4', list)?.inputMicrosPerMillion).toBe(9_000_000);
      expect(priceOf('gpt-5.5', list)).toEqual(priceOf('gpt-5.5', builtInPrices));
    });
    withFile(JSON.stringify({ prices: [entry] }), (path) =>
      expect(() => loadPriceList(path)).toThrow(/source/),
    );
    withFile('{', (path) => expect(() => loadPriceList(path)).toThrow());
  });
});

describe('the cost of a call', () => {
  it('is rounded up to whole micros', () => {
    const price = known('gpt-5-nano');
    expect(costMicros(price, { ...usage, inputTokens: 1 })).toBe(1);
    expect(costMicros(price, usage)).toBe(0);
    expect(
      costMicros(known('rehearsal-1'), {
        ...usage,
        inputTokens: 1000,
        cacheReadTokens: 5000,
        outputTokens: 10,
      }),
    ).toBe(1000 + 500 + 40);
  });

  it('has the rates of a long context for the whole request once all input together is over the line', () => {
    const price = known('gpt-6.1-sol');
    const under = { ...usage, inputTokens: 2000, cacheReadTokens: 270_000, outputTokens: 1000 };
    expect(costMicros(price, under)).toBe(2000 * 2 + 270_000 * 0.1 + 1000 * 10);
    expect(costMicros(price, { ...under, inputTokens: 2001 })).toBe(2001 * 4 + 270_000 * 0.2 + 1000 * 15);
  });

  it('is never above the worst case that was reserved for it', () => {
    const tokens = fc.integer({ min: 0, max: 1_000_000 });
    const models = fc.constantFrom(...priceEntries.map((entry) => entry.model));
    fc.assert(
      fc.property(
        models,
        tokens,
        tokens,
        tokens,
        tokens,
        (model, inputTokens, cacheReadTokens, cacheWriteTokens, outputTokens) => {
          const spent = { inputTokens, cacheReadTokens, cacheWriteTokens, outputTokens };
          const bound = worstCaseMicros(
            known(model),
            inputTokens + cacheReadTokens + cacheWriteTokens,
            outputTokens,
          );
          expect(costMicros(known(model), spent)).toBeLessThanOrEqual(bound);
          expect(Number.isSafeInteger(costMicros(known(model), spent))).toBe(true);
        },
      ),
    );
  });
});
