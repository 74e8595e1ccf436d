/** `scriptorium environment history`: the versions of an environment, newest first. */
import type { Environment } from '../../protocol/environments.ts';
import type { ExitCode } from '../ending.ts';
import { exitCodes } from '../ending.ts';
import type { ServerOptions } from '../server/connect.ts';
import { connect } from '../server/connect.ts';
import { environmentPath, resolveEnvironment, summaryOf } from '../server/environments.ts';
import { listAll } from '../server/pages.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { oneLine } from '../terminal/text.ts';

export async function environmentHistory(
  typed: string,
  options: ServerOptions & { json?: boolean },
  terminal: Terminal,
): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const environment = await resolveEnvironment(client, typed);
  for (const one of await listAll<Environment>(client, `${environmentPath(environment)}/versions`))
    terminal.out(
      options.json === true
        ? JSON.stringify(one)
        : `v${one.version}  ${one.updated_at}  ${oneLine(summaryOf(one), 120)}`,
    );
  return exitCodes.done;
}
