/** What stands at the end of `run` and `attach`: the diff, the figures, and the commands to look further. */
import type { JsonObject } from '../protocol/json.ts';
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import type { Client } from './server/client.ts';
import type { SessionObject } from './server/sessions.ts';
import { shortId, waitsFor } from './server/sessions.ts';
import { counted, duration, money, tokens } from './terminal/figures.ts';
import type { Terminal } from './terminal/terminal.ts';
import { oneLine, safeText } from './terminal/text.ts';
import type { Watched } from './watch.ts';

export type SessionDiff = { diff: string; files?: JsonObject[]; base?: string | null; truncated?: boolean };

const MAX_DIFF_LINES = 400;

export async function getDiff(client: Client, session: string): Promise<SessionDiff | null> {
  try {
    return await client.get<SessionDiff>(`/v1/sessions/${session}/diff`);
  } catch (error) {
    // No repository, no sandbox yet, or the hands are away: there is no diff to show, which is not a failure.
    if (error instanceof Refused) return null;
    throw error;
  }
}

export function printDiff(terminal: Terminal, diff: string): void {
  const lines = safeText(diff).replace(/\n$/, '').split('\n');
  for (const line of lines.slice(0, MAX_DIFF_LINES)) terminal.out(painted(terminal, line));
  if (lines.length > MAX_DIFF_LINES) terminal.out(`… ${lines.length - MAX_DIFF_LINES} more lines`);
}

function painted(terminal: Terminal, line: string): string {
  if (/^(diff |index |\+\+\+ |--- |new file|deleted file|rename |similarity )/.test(line))
    return terminal.paint('bold', line);
  if (line.startsWith('@@')) return terminal.paint('cyan', line);
  if (line.startsWith('+')) return terminal.paint('green', line);
  if (line.startsWith('-')) return terminal.paint('red', line);
  return line;
}

/** Prints the end and says the exit code. */
export async function conclude(
  client: Client,
  id: string,
  watched: Watched,
  options: { terminal: Terminal; json: boolean; tookMs: number },
): Promise<ExitCode> {
  const { terminal, json } = options;
  const exitCode = exitCodeOf(watched);
  const { ending } = watched;
  const hasSession = ending.type === 'idle' || ending.type === 'terminated';
  const session = hasSession ? ending.session : null;
  const hasRepository = session?.resources.some((resource) => resource.type === 'repository') === true;
  const diff = hasRepository ? await getDiff(client, id) : null;
  if (json) {
    terminal.out(JSON.stringify(resultLine(id, watched, session, diff, exitCode)));
    return exitCode;
  }
  if (diff !== null && diff.diff !== '') {
    terminal.out('');
    printDiff(terminal, diff.diff);
  }
  terminal.err('');
  terminal.err(sentenceOf(watched));
  if (session !== null) terminal.err(terminal.paint('dim', figuresOf(session, watched, options.tookMs)));
  for (const line of nextSteps(id, watched, session, diff)) terminal.err(line);
  return exitCode;
}

function exitCodeOf({ ending, wasInterrupted }: Watched): ExitCode {
  if (ending.type === 'left' || wasInterrupted) return exitCodes.interrupted;
  if (ending.type !== 'idle') return exitCodes.error;
  if (ending.stopReason === 'requires_action') return exitCodes.needsAction;
  return ending.stopReason === 'end_turn' ? exitCodes.done : exitCodes.error;
}

function resultLine(
  id: string,
  watched: Watched,
  session: SessionObject | null,
  diff: SessionDiff | null,
  exitCode: ExitCode,
): JsonObject {
  return {
    type: 'cli.result',
    session_id: id,
    ending: watched.ending.type,
    stop_reason: watched.ending.type === 'idle' ? watched.ending.stopReason : null,
    interrupted: watched.wasInterrupted,
    usage: session === null ? null : { ...session.usage, cost_micros: session.usage.cost_micros ?? null },
    diff: diff?.diff ?? null,
    exit_code: exitCode,
  };
}

const sentences: Record<string, string> = {
  end_turn: 'Done.',
  requires_action: 'The agent waits for an answer.',
  retries_exhausted: 'The agent could not go on; the error is above.',
  refusal: 'The model refused to go on.',
};

function sentenceOf({ ending, wasInterrupted }: Watched): string {
  if (ending.type === 'left') return 'Left. The agent goes on without you.';
  if (ending.type === 'deleted') return 'The session was deleted.';
  if (ending.type === 'terminated') return 'The session is over.';
  if (wasInterrupted) return 'Interrupted.';
  return sentences[ending.stopReason] ?? `The session rests (${oneLine(ending.stopReason, 60)}).`;
}

function figuresOf(session: SessionObject, watched: Watched, tookMs: number): string {
  const { usage } = session;
  const cost = usage.cost_micros === undefined ? watched.totals.costMicros : usage.cost_micros;
  const input = usage.input_tokens + usage.cache_read_input_tokens;
  const figures = `${tokens(input)} tokens in, ${tokens(usage.output_tokens)} out, ${money(cost)}`;
  return `${counted(watched.events, 'event')}, ${counted(watched.totals.toolCalls, 'tool call')}, ${figures}, ${duration(tookMs)}`;
}

function nextSteps(
  id: string,
  watched: Watched,
  session: SessionObject | null,
  diff: SessionDiff | null,
): string[] {
  const { ending } = watched;
  if (ending.type === 'deleted') return [];
  const steps: [string, string][] = [];
  if (ending.type === 'left') steps.push([`scriptorium attach ${id}`, 'come back to it']);
  if (session !== null && waitsFor(session).length > 0)
    steps.push([`scriptorium confirm ${id} --allow`, 'or --deny "why not"']);
  if (diff !== null && diff.diff !== '')
    steps.push([`scriptorium apply ${id}`, `bring it in as the branch scriptorium/${shortId(id)}`]);
  if (ending.type !== 'terminated') steps.push([`scriptorium send ${id} "…"`, 'say more']);
  steps.push([`scriptorium events ${id}`, 'everything that happened']);
  const width = Math.max(...steps.map(([command]) => command.length));
  return ['', ...steps.map(([command, what]) => `  ${command.padEnd(width)}   ${what}`)];
}
