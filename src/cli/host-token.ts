/** `scriptorium host-token`: mints what a host needs to join. Made from the cluster secret, here; nothing is asked. */
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import type { Terminal } from './terminal/terminal.ts';

export type HostTokenOptions = { clusterSecretFile: string; name?: string };

export async function hostToken(options: HostTokenOptions, terminal: Terminal): Promise<ExitCode> {
  const main = await import('../main.ts');
  try {
    terminal.out(main.hostToken(options.clusterSecretFile, options.name));
  } catch (error) {
    if ((error as Error).name !== 'BadSecret') throw error;
    throw new Refused((error as Error).message);
  }
  return exitCodes.done;
}
