import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildLimits, limitPolicy } from './limit-policy.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'scriptorium-limits-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const of = (content: unknown): { limitsFile: string } => {
  const limitsFile = path.join(folder, 'limits.json');
  writeFileSync(limitsFile, typeof content === 'string' ? content : JSON.stringify(content));
  return { limitsFile };
};

it('without a file one machine gives no more than it has, and puts no quota on who asks for none', () => {
  const { limits, maxima } = limitPolicy({}, true);
  expect(Object.keys(maxima).sort()).toEqual(['cpu_cores', 'memory_bytes']);
  expect(limits.memoryBytes).toBeLessThanOrEqual(maxima.memory_bytes ?? 0);
  expect(limits).not.toHaveProperty('cpuCores');
  expect(limitPolicy({}, false).maxima).toEqual({});
});

it('a maximum of the operator bounds also whoever asks for nothing', () => {
  const maxima = { memory_bytes: 2 ** 28, wall_time_ms: 60_000, cpu_cores: 0.5 };
  const { limits } = limitPolicy(of({ maxima, defaults: { processes: 99 } }), false);
  const { wallTimeMs: _, ...resources } = limits;
  expect(buildLimits(limits)).toEqual(resources);
  expect(limits).toMatchObject({ memoryBytes: 2 ** 28, wallTimeMs: 60_000, cpuCores: 0.5, processes: 99 });
});

it.each([
  ['{', 'JSON'],
  [{ maximum: {} }, 'maximum'],
  [{ maxima: { memory: 5 } }, 'memory'],
  [{ defaults: { processes: 500 }, maxima: { processes: 100 } }, 'defaults: limits.processes: 500 is above'],
])('a file that says %j stops the start, with the member it is about', (content, words) => {
  expect(() => limitPolicy(of(content), true)).toThrow(words);
});
