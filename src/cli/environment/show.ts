/** `scriptorium environment show`: what an environment says, and what it was built into. */
import type { EnvironmentBuild } from '../../protocol/environment-builds.ts';
import type { ExitCode } from '../ending.ts';
import { exitCodes } from '../ending.ts';
import type { ServerOptions } from '../server/connect.ts';
import { connect } from '../server/connect.ts';
import { buildLines, environmentPath, resolveEnvironment, summaryOf } from '../server/environments.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { oneLine, safeText } from '../terminal/text.ts';

export async function environmentShow(
  typed: string,
  options: ServerOptions & { json?: boolean },
  terminal: Terminal,
): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const environment = await resolveEnvironment(client, typed);
  const build = await client.get<EnvironmentBuild>(`${environmentPath(environment)}/build`);
  if (options.json === true) {
    terminal.out(JSON.stringify({ ...environment, build }));
    return exitCodes.done;
  }
  terminal.out(
    `${terminal.paint('bold', environment.id)}  v${environment.version}  ${oneLine(environment.name, 80)}`,
  );
  terminal.out(`has: ${safeText(summaryOf(environment))}`);
  terminal.out(`network: ${safeText(JSON.stringify(environment.config.networking))}`);
  for (const line of buildLines(build)) terminal.out(safeText(line));
  return exitCodes.done;
}
