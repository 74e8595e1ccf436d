/**
 * The demo: an agent finds and fixes a real bug in a small Node project, soaks, tests again and commits. Every step
 * looks at what the tools really returned; whatever is not as it must be ends the demo with `{fail}`.
 *
 * `fix-bug.json` beside this file holds the strings that the demo's project and its checks share with this script.
 * The stage is read from the whole session, so that a message in the middle, a retry or another engine changes nothing.
 */
import type { Answer, Reply, ToolOutput, Turn } from '../script.ts';
import facts from './fix-bug.json' with { type: 'json' };

export { facts };

/** What our side writes in front of a tool result that is an error. */
const errorMark = '[error]';
const soakTimeoutMs = 120_000;

type Stage = (turn: Turn, project: Project) => Reply | null;

type Project = { workspace: string; outputs: readonly ToolOutput[] };

export default function fixBug(turn: Turn): Reply {
  const project = { workspace: turn.args.workspace ?? facts.workspace, outputs: turn.allToolOutputs };
  const missing = ['bash', 'read', 'edit'].filter((name) => !turn.tools.includes(name));
  if (missing.length > 0) return { fail: `the agent has no tool ${missing.join(', ')}` };
  for (const stage of stages) {
    const reply = stage(turn, project);
    if (reply !== null) return reply;
  }
  return { text: facts.finalText };
}

/** In order; each asks for its own step until that is done, then lets the next one speak. */
const stages: readonly Stage[] = [seeItFail, readFailing, editSource, soak, seeItPass, commit];

function seeItFail(_: Turn, { outputs }: Project): Reply | null {
  const run = bashRuns(outputs, facts.testCommand)[0];
  if (run === undefined) {
    return bash('I will run the tests first, to see the failure with my own eyes.', facts.testCommand);
  }
  const failures = counted(run.text, 'fail');
  if (failures === null) return unexpected('the first test run', 'shows no count of failures', run.text);
  return failures === 0 ? unexpected('the first test run', 'has no failing test', run.text) : null;
}

/** A stack names the test that failed; the test's import names the source. */
function readFailing(_: Turn, { workspace, outputs }: Project): Reply | null {
  const failure = bashRuns(outputs, facts.testCommand)[0]?.text ?? '';
  const named = /\b(?:src|test)\/[\w.-]+\.js\b/.exec(failure)?.[0];
  if (named === undefined) return unexpected('the first test run', 'names no file', failure);
  const first = outputs.find((output) => isReadOf(output, named));
  if (first === undefined) return read(`The failure points to ${named}.`, `${workspace}/${named}`);
  if (first.text.startsWith(errorMark)) return unexpected(`reading ${named}`, 'failed', first.text);
  if (named.startsWith('src/')) return null;
  const imported = /\.\.\/(src\/[\w.-]+\.js)/.exec(first.text)?.[1];
  if (imported === undefined) return unexpected(`the test ${named}`, 'imports no source', first.text);
  const source = outputs.find((output) => isReadOf(output, imported));
  if (source === undefined)
    return read(`The test is right; it checks ${imported}.`, `${workspace}/${imported}`);
  return source.text.startsWith(errorMark) ? unexpected(`reading ${imported}`, 'failed', source.text) : null;
}

function editSource(_: Turn, { workspace, outputs }: Project): Reply | null {
  const edits = outputs.filter((output) => output.toolName === 'edit');
  const done = edits.find((output) => !output.text.startsWith(errorMark));
  if (done !== undefined) return null;
  const failed = edits.at(-1);
  if (failed !== undefined) return unexpected('the edit', 'failed', failed.text);
  const source = outputs.find((output) => isReadOf(output, facts.sourcePath))?.text ?? '';
  if (source.includes(facts.fixLine)) return null;
  if (!source.includes(facts.bugLine)) {
    return unexpected(facts.sourcePath, `holds neither "${facts.bugLine}" nor the fix`, source);
  }
  return {
    reasoning: `A minute has 60,000 ms. The table says "${facts.bugLine}", which is a second.`,
    toolCalls: [
      {
        name: 'edit',
        arguments: {
          file_path: `${workspace}/${facts.sourcePath}`,
          old_string: facts.bugLine,
          new_string: facts.fixLine,
        },
      },
    ],
  };
}

function soak(_: Turn, { outputs }: Project): Reply | null {
  const run = bashRuns(outputs, facts.soakCommand)[0];
  if (run === undefined) {
    return bash(
      'Before I trust it, the soak script; it takes some seconds.',
      facts.soakCommand,
      soakTimeoutMs,
    );
  }
  return run.text.startsWith(errorMark) ? unexpected('the soak', 'failed', run.text) : null;
}

function seeItPass(_: Turn, { outputs }: Project): Reply | null {
  const run = bashRuns(outputs, facts.testCommand)[1];
  if (run === undefined) return bash('Now the tests again.', facts.testCommand);
  const passed = counted(run.text, 'pass') ?? 0;
  if (counted(run.text, 'fail') === 0 && passed > 0) return null;
  return unexpected('the second test run', 'does not pass', run.text);
}

function commit(_: Turn, { outputs }: Project): Reply | null {
  const command = `git checkout -b ${facts.branch} && git add -A && git commit -m '${facts.commitMessage}'`;
  const run = bashRuns(outputs, command)[0];
  if (run === undefined) return bash('All green. I commit the fix on a branch of its own.', command);
  const isCommitted = run.text.includes(facts.commitMessage) && /\b\d+ files? changed/.test(run.text);
  return isCommitted ? null : unexpected('the commit', 'left no trace in its output', run.text);
}

function bash(reasoning: string, command: string, timeoutMs?: number): Answer {
  const timeout = timeoutMs === undefined ? {} : { timeout_ms: timeoutMs };
  return { reasoning, text: reasoning, toolCalls: [{ name: 'bash', arguments: { command, ...timeout } }] };
}

function read(reasoning: string, path: string): Answer {
  return { reasoning, toolCalls: [{ name: 'read', arguments: { file_path: path } }] };
}

function bashRuns(outputs: readonly ToolOutput[], command: string): ToolOutput[] {
  return outputs.filter((output) => output.toolName === 'bash' && output.input?.command === command);
}

function isReadOf(output: ToolOutput, path: string): boolean {
  return output.toolName === 'read' && String(output.input?.file_path).endsWith(`/${path}`);
}

/** `# fail 1` in TAP, `ℹ fail 1` in the spec reporter. */
function counted(text: string, what: 'pass' | 'fail'): number | null {
  const count = new RegExp(`^(?:#|ℹ) ${what} (\\d+)`, 'm').exec(text)?.[1];
  return count === undefined ? null : Number(count);
}

function unexpected(what: string, problem: string, seen: string): Reply {
  const excerpt = seen.length > 2000 ? `${seen.slice(0, 1000)}\n…\n${seen.slice(-1000)}` : seen;
  return { fail: `${what} ${problem}. The model saw:\n${excerpt}` };
}
