/** `scriptorium environment ls`: environments, newest first. */
import type { ExitCode } from '../ending.ts';
import { exitCodes } from '../ending.ts';
import type { ServerOptions } from '../server/connect.ts';
import { connect } from '../server/connect.ts';
import { listEnvironments, summaryOf } from '../server/environments.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { oneLine } from '../terminal/text.ts';

export async function environmentLs(
  options: ServerOptions & { json?: boolean },
  terminal: Terminal,
): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const all = await listEnvironments(client);
  if (all.length === 0)
    terminal.err('no environments yet; make one with: scriptorium environment create <name>');
  for (const one of all)
    terminal.out(
      options.json === true
        ? JSON.stringify(one)
        : `${terminal.paint('bold', one.id)}  v${one.version}  ${oneLine(one.name, 40)}  ${oneLine(summaryOf(one), 100)}`,
    );
  return exitCodes.done;
}
