/**
 * `scriptorium replay`: every model request of a session, derived again from its log and compared with what was sent
 * (L7). Names the first that differs. Exit code 0 where none does, 1 otherwise.
 */
import type { ReplayReport } from './checks.ts';
import { openChecks } from './checks.ts';
import type { ExitCode } from './ending.ts';
import { exitCodes } from './ending.ts';
import type { ServerOptions } from './server/connect.ts';
import type { Terminal } from './terminal/terminal.ts';
import { safeText } from './terminal/text.ts';

export type ReplayOptions = ServerOptions & { json?: boolean };

export async function replay(typed: string, options: ReplayOptions, terminal: Terminal): Promise<ExitCode> {
  const checks = await openChecks(options, terminal);
  try {
    const report = await checks.replay(typed);
    const isSame = report.first_difference === null;
    if (options.json === true) terminal.out(JSON.stringify({ ...report, by: checks.by }));
    else for (const line of linesOf(report, terminal)) terminal.out(line);
    return isSame ? exitCodes.done : exitCodes.error;
  } finally {
    await checks.close();
  }
}

function linesOf(report: ReplayReport, terminal: Terminal): string[] {
  const { first_difference: difference, requests, events, unrendered } = report;
  const lines =
    difference === null
      ? [
          `${terminal.paint('green', 'ok')} ${report.session_id}: ${requests} model ${requests === 1 ? 'request' : 'requests'} derived again from ${events} events, byte for byte`,
        ]
      : [
          terminal.paint('red', `model request ${difference.request} of ${requests} differs`) +
            `: ${report.session_id} seq ${difference.seq}, ${safeText(difference.event_id)}`,
          `  was sent as sha256 ${safeText(difference.recorded_sha256)}`,
          `  is now       sha256 ${safeText(difference.derived_sha256)}`,
        ];
  if (unrendered > 0)
    lines.push(terminal.paint('dim', `${unrendered} were never rendered: no model was configured then`));
  return lines;
}
