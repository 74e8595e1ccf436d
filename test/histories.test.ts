/**
 * Golden histories: logs that released versions wrote, replayed for ever. What an old log means, which requests follow
 * from it and what its row shows must never change (L1, L7). See histories/README.md before touching a recording.
 */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { StoredEvent } from '../src/store/store.ts';
import type { Expectation } from './histories/digest.ts';
import {
  recordedRequests,
  replay,
  sha256Of,
  shapedAs,
  stateOf,
  statesAlong,
  stepsOf,
  summaryOf,
} from './histories/digest.ts';

const root = path.join(import.meta.dirname, 'histories');
const isVersion = (name: string) => /^\d+\.\d+\.\d+/.test(name);
const versions = readdirSync(root, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && isVersion(entry.name))
  .map(({ name }) => name);

function namesOf(version: string): { logs: string[]; expectations: string[] } {
  const files = readdirSync(path.join(root, version));
  const ending = '.expected.jsonl';
  const expectations = files
    .filter((file) => file.endsWith(ending))
    .map((file) => file.slice(0, -ending.length));
  const logs = files.filter((file) => !file.endsWith(ending)).map((file) => file.replace(/\.jsonl$/, ''));
  return { logs: logs.toSorted(), expectations: expectations.toSorted() };
}

function linesOf<T>(version: string, file: string): T[] {
  const text = readFileSync(path.join(root, version, file), 'utf8');
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as T);
}

it('the histories of 0.1.0, the first version, are there', () => {
  expect(versions).toContain('0.1.0');
});

it.each(versions)('%s has histories, and each its expectation: none was lost', (version) => {
  const { logs, expectations } = namesOf(version);
  expect(logs.length).toBeGreaterThan(0);
  expect(expectations).toEqual(logs);
});

const recordings = versions.flatMap((version) =>
  namesOf(version).logs.map((name) => ({ version, name, title: `${version}/${name}` })),
);

describe.each(recordings)('$title', ({ version, name }) => {
  const log = linesOf<StoredEvent>(version, `${name}.jsonl`);
  const [expected] = linesOf<Expectation>(version, `${name}.expected.jsonl`) as [Expectation];

  it('is as it was recorded, from the first event to the last', () => {
    expect(log.map((event) => event.seq)).toEqual(Array.from({ length: expected.events }, (_, i) => i + 1));
    expect(sha256Of(expected.state)).toBe(expected.stateSha256);
    expect(recordedRequests(log)).toEqual(expected.requests);
  });

  it('folds to the same state, by way of every prefix (L1)', () => {
    const now = shapedAs(expected.state, stateOf(log));
    expect(now).toEqual(expected.state);
    expect(sha256Of(now)).toBe(expected.stateSha256);
    const then = statesAlong(expected.steps);
    const since = statesAlong(stepsOf(log)).map((state, index) => shapedAs(then[index] ?? {}, state));
    expect(since).toEqual(then);
    for (let length = 0; length < log.length; length++)
      expect(stateOf(log.slice(0, length)).seq).toBe(length);
  });

  it('leads to the same model requests, byte for byte (L7)', async () => {
    const replayed = await replay(log);
    if (replayed.isErased) expect(expected.requests).toEqual([]);
    else expect(replayed).toMatchObject({ requests: expected.requests.length, firstDifference: null });
  });

  it('has the same summary (L1)', () => {
    const now = summaryOf(log);
    expect(expected.summary === null ? now : shapedAs(expected.summary, now)).toEqual(expected.summary);
  });
});
