/** `scriptorium host-lost`: gives a machine up for good; its sessions go on elsewhere, from where they began. */
import type { ExitCode } from './ending.ts';
import { exitCodes } from './ending.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import type { Terminal } from './terminal/terminal.ts';

export async function hostLost(
  id: string,
  options: ServerOptions & { reason?: string },
  terminal: Terminal,
): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const body = options.reason === undefined ? {} : { reason: options.reason };
  await client.post(`/v1/hosts/${encodeURIComponent(id)}/lost`, { json: body });
  terminal.err(`${id} is given up`);
  return exitCodes.done;
}
