/** `scriptorium environment build`: builds ahead of the first session, and waits for the ending. */
import { setTimeout as delay } from 'node:timers/promises';
import type { EnvironmentBuild } from '../../protocol/environment-builds.ts';
import type { ExitCode } from '../ending.ts';
import { exitCodes } from '../ending.ts';
import type { ServerOptions } from '../server/connect.ts';
import { connect } from '../server/connect.ts';
import { buildLines, environmentPath, resolveEnvironment } from '../server/environments.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { safeText } from '../terminal/text.ts';

const pollMs = 500;

export async function environmentBuild(
  typed: string,
  options: ServerOptions & { detach?: boolean; json?: boolean },
  terminal: Terminal,
): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const where = `${environmentPath(await resolveEnvironment(client, typed))}/build`;
  let build = await client.post<EnvironmentBuild>(where);
  while (build.status === 'building' && options.detach !== true) {
    await delay(pollMs);
    build = await client.get<EnvironmentBuild>(where);
  }
  if (options.json === true) terminal.out(JSON.stringify(build));
  else for (const line of buildLines(build)) terminal.out(safeText(line));
  return build.status === 'failed' ? exitCodes.error : exitCodes.done;
}
