// The demo is worth what its checks are worth: each deviation must fail the one check that names it.
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import type { SessionEvent } from '../../src/cli/server/follow.ts';
import type { Outcome } from './checks.ts';
import { checksOf } from './checks.ts';
import type { Facts } from './project.ts';
import { soakRounds } from './project.ts';

const file = new URL('../../rehearsal/scripts/fix-bug.json', import.meta.url);
const facts = JSON.parse(readFileSync(file, 'utf8')) as Facts;

function event(id: string, type: string, more: object = {}): SessionEvent {
  return { id, type, processed_at: '2026-11-20T19:00:00.000Z', ...more } as SessionEvent;
}

function good(): Outcome {
  const listed = [
    event('1', 'user.message'),
    event('2', 'agent.tool_use', { name: 'bash', input: { command: facts.soakCommand } }),
    event('3', 'agent.tool_result', { tool_use_id: '2' }),
    event('4', 'agent.message', { content: [{ type: 'text', text: facts.finalText }] }),
    event('5', 'session.status_idle'),
  ];
  return {
    facts,
    witness: Array.from({ length: soakRounds }, (_, index) => `round ${index + 1}\n`).join(''),
    streamed: listed.map((one, index) => ({ event: one, seq: index + 1 })),
    listed,
    stopReason: 'end_turn',
    diff: `--- a/x\n+++ b/x\n@@ -1 +1 @@\n-  ${facts.bugLine}\n+  ${facts.fixLine}\n`,
    before: { pass: 2, fail: 2 },
    after: { pass: 4, fail: 0 },
    commits: [facts.commitMessage],
    linesWithoutEngine: 3,
  };
}

const failing = (outcome: Outcome): string[] =>
  checksOf(outcome).flatMap(({ what, problem }) => (problem === null ? [] : [what]));

it('a demo that went as it should passes', () => expect(failing(good())).toEqual([]));

const deviations: [string, (outcome: Outcome) => void, RegExp][] = [
  ['a repeated round', (o) => (o.witness += 'round 12\n'), /witness/],
  ['a missing round', (o) => (o.witness = o.witness.replace('round 3\n', '')), /witness/],
  ['a command that stopped with the engine', (o) => (o.linesWithoutEngine = 0), /went on/],
  ['an event the stream never gave', (o) => o.streamed.splice(3, 1), /lost/],
  ['an event given twice', (o) => o.streamed.push({ event: o.listed[3]!, seq: 9 }), /lost/],
  ['a stream that went back', (o) => (o.streamed[3]!.seq = 2), /lost/],
  ['an event the log has no more', (o) => o.listed.splice(0, 1), /lost/],
  ['a call without a result', (o) => (o.listed[2]!.tool_use_id = 'x'), /exactly one result/],
  ['a result in doubt', (o) => (o.listed[2]!.in_doubt = true), /exactly one result/],
  ['another ending', (o) => (o.stopReason = 'retries_exhausted'), /ended its turn/],
  ['other last words', (o) => (o.listed[3]!.content = [{ type: 'text', text: 'hm' }]), /ended its turn/],
  ['a change beside the fix', (o) => (o.diff += '+more\n'), /diff/],
  ['no change', (o) => (o.diff = ''), /diff/],
  ['another commit', (o) => o.commits.push('more'), /one commit/],
  ['tests that passed before', (o) => (o.before = { pass: 4, fail: 0 }), /tests/],
  ['tests that fail after', (o) => (o.after = { pass: 3, fail: 1 }), /tests/],
  ['tests that could not be counted', (o) => (o.after = { pass: Number.NaN, fail: Number.NaN }), /tests/],
];

it.each(deviations)('%s fails the demo', (_what, deviate, named) => {
  const outcome = good();
  deviate(outcome);
  expect(failing(outcome)).toEqual([expect.stringMatching(named)]);
});
