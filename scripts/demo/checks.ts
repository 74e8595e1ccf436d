/** What must hold at the end of the demo. Each check is one sentence; what does not hold fails the demo. */
import type { SessionEvent } from '../../src/cli/server/follow.ts';
import type { Facts, TestResult } from './project.ts';
import { soakRounds } from './project.ts';

export type Seen = { event: SessionEvent; seq: number | null };

export type Outcome = {
  facts: Facts;
  witness: string;
  /** What the stream gave, through both servers. */
  streamed: Seen[];
  /** What the second server lists. */
  listed: SessionEvent[];
  stopReason: string;
  diff: string;
  before: TestResult;
  after: TestResult;
  commits: string[];
  linesWithoutEngine: number;
};

export type Check = { what: string; problem: string | null };

export function checksOf(outcome: Outcome): Check[] {
  return [
    { what: 'the command went on while there was no engine', problem: wentOn(outcome) },
    { what: `the witness saw each of the ${soakRounds} rounds exactly once`, problem: witnessed(outcome) },
    { what: 'no event was lost or given twice across the kill', problem: complete(outcome) },
    { what: 'every tool call has exactly one result, none in doubt', problem: answered(outcome) },
    { what: 'no command was run a second time', problem: notRepeated(outcome) },
    { what: 'the agent ended its turn, saying what it had to say', problem: ended(outcome) },
    { what: 'the diff is the fix and nothing else', problem: fixed(outcome) },
    { what: 'the branch has the one commit', problem: committed(outcome) },
    { what: 'tests: failing before, passing after (run by us, in clones)', problem: tested(outcome) },
  ];
}

function wentOn({ linesWithoutEngine }: Outcome): string | null {
  return linesWithoutEngine > 0 ? null : 'the witness got no line between the kill and the restart';
}

function witnessed({ witness }: Outcome): string | null {
  const expected = Array.from({ length: soakRounds }, (_, index) => `round ${index + 1}`).join('\n');
  return witness.trim() === expected ? null : `the witness says:\n${witness.trim()}`;
}

function complete({ streamed, listed }: Outcome): string | null {
  const seqs = streamed.flatMap(({ seq }) => (seq === null ? [] : [seq]));
  if (seqs.some((seq, index) => index > 0 && seq <= (seqs[index - 1] ?? 0))) return 'the stream went back';
  const ids = [...new Set(streamed.map(({ event }) => event.id))];
  const missing = listed.filter(({ id }) => !ids.includes(id));
  if (missing.length > 0) return `not streamed: ${missing.map((event) => event.type).join(', ')}`;
  if (ids.length !== listed.length) return `streamed ${ids.length} events, the log has ${listed.length}`;
  const twice = streamed.filter(({ event }) => !event.type.startsWith('user.')).length;
  const own = listed.filter((event) => !event.type.startsWith('user.')).length;
  return twice === own ? null : `${twice} frames for ${own} events`;
}

function answered({ listed }: Outcome): string | null {
  const uses = listed.filter((event) => event.type === 'agent.tool_use');
  const results = listed.filter((event) => event.type === 'agent.tool_result');
  for (const use of uses) {
    const own = results.filter((result) => result.tool_use_id === use.id);
    if (own.length !== 1) return `${String(use.name)} has ${own.length} results`;
    if (own[0]?.in_doubt === true) return `${String(use.name)} is in doubt`;
  }
  return uses.length > 0 && uses.length === results.length
    ? null
    : `${uses.length} calls, ${results.length} results`;
}

function notRepeated({ facts, listed }: Outcome): string | null {
  const soaks = listed.filter((event) => {
    const input = event.input as { command?: string } | undefined;
    return event.type === 'agent.tool_use' && input?.command === facts.soakCommand;
  });
  return soaks.length === 1 ? null : `the soak was called ${soaks.length} times`;
}

function ended({ facts, listed, stopReason }: Outcome): string | null {
  if (stopReason !== 'end_turn') {
    const error = listed.findLast((event) => event.type === 'session.error')?.error as
      | { message?: string }
      | undefined;
    return `it stopped with ${stopReason}: ${error?.message ?? 'no error given'}`;
  }
  const last = listed.findLast((event) => event.type === 'agent.message');
  return JSON.stringify(last?.content ?? '').includes(JSON.stringify(facts.finalText).slice(1, -1))
    ? null
    : 'its last words are others';
}

function fixed({ facts, diff }: Outcome): string | null {
  const changed = diff.split('\n').filter((line) => /^[+-](?![+-]{2} )/.test(line));
  const expected = [`-  ${facts.bugLine}`, `+  ${facts.fixLine}`];
  const isSame = changed.length === 2 && expected.every((line, index) => changed[index] === line);
  return isSame ? null : `it changes:\n${changed.join('\n')}`;
}

function committed({ facts, commits }: Outcome): string | null {
  return commits.length === 1 && commits[0] === facts.commitMessage
    ? null
    : `commits: ${commits.join(' | ')}`;
}

function tested({ before, after }: Outcome): string | null {
  if (!(before.fail > 0)) return `before: ${before.pass} pass, ${before.fail} fail`;
  const isGood = after.fail === 0 && after.pass === before.pass + before.fail;
  return isGood ? null : `after: ${after.pass} pass, ${after.fail} fail`;
}
