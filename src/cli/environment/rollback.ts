/** `scriptorium environment rollback`: the config of an earlier version becomes that of a new one. */
import type { Environment } from '../../protocol/environments.ts';
import type { ExitCode } from '../ending.ts';
import { exitCodes, Refused } from '../ending.ts';
import type { ServerOptions } from '../server/connect.ts';
import { connect } from '../server/connect.ts';
import { environmentPath, resolveEnvironment, summaryOf } from '../server/environments.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { safeText } from '../terminal/text.ts';

export async function environmentRollback(
  typed: string,
  version: string,
  options: ServerOptions & { json?: boolean },
  terminal: Terminal,
): Promise<ExitCode> {
  const number = Number(version.replace(/^v/, ''));
  if (!Number.isSafeInteger(number) || number < 1)
    throw new Refused(`${version} is no version`, {
      exitCode: exitCodes.usage,
      hint: 'scriptorium environment history shows them',
    });
  const client = await connect({ ...options, terminal });
  const environment = await resolveEnvironment(client, typed);
  const where = `${environmentPath(environment)}/rollback`;
  const now = await client.post<Environment>(where, { json: { version: number } });
  terminal.out(
    options.json === true
      ? JSON.stringify(now)
      : safeText(`v${now.version} is what v${number} was: ${summaryOf(now)}`),
  );
  return exitCodes.done;
}
