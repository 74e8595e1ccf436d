/** `scriptorium vault rotate`: a newer key-encryption key for every credential. */
import type { ExitCode } from './ending.ts';
import { exitCodes } from './ending.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import type { Terminal } from './terminal/terminal.ts';

type Rotation = { key_id: string; rewrapped: number; failed: number };

export async function vaultRotate(
  options: ServerOptions & { json?: boolean },
  terminal: Terminal,
): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const rotation = await client.post<Rotation>('/v1/vault_keys/rotate');
  const { key_id, rewrapped, failed } = rotation;
  if (options.json === true) terminal.out(JSON.stringify(rotation));
  else terminal.out(`key ${key_id} wraps now; wrapped anew: ${rewrapped}`);
  if (failed === 0) return exitCodes.done;
  terminal.err(`${failed} data keys could not be wrapped anew: their older key can not be had`);
  return exitCodes.error;
}
