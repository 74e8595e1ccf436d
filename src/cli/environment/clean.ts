/** `scriptorium environment clean`: removes layers that no session refers to. */
import type { ExitCode } from '../ending.ts';
import { exitCodes, Refused } from '../ending.ts';
import type { ServerOptions } from '../server/connect.ts';
import { connect } from '../server/connect.ts';
import type { Terminal } from '../terminal/terminal.ts';

export async function environmentClean(
  options: ServerOptions & { olderThan: string; json?: boolean },
  terminal: Terminal,
): Promise<ExitCode> {
  const seconds = Number(options.olderThan);
  if (!Number.isSafeInteger(seconds) || seconds < 0)
    throw new Refused('--older-than needs seconds', { exitCode: exitCodes.usage });
  const client = await connect({ ...options, terminal });
  const json = { older_than_seconds: seconds };
  const cleaned = await client.post<{ removed: string[] }>('/v1/environment_layers/clean', { json });
  if (options.json === true) terminal.out(JSON.stringify(cleaned));
  else if (cleaned.removed.length === 0) terminal.out('nothing to remove');
  else for (const digest of cleaned.removed) terminal.out(`removed ${digest}`);
  return exitCodes.done;
}
