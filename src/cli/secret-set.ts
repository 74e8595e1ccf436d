/**
 * `scriptorium secret set`: puts a value into a vault, as a variable of sessions, bound to hosts.
 *
 * - S1: the value comes from stdin or a file. An argument would be in the shell's history and in the list of processes.
 */
import { readFileSync } from 'node:fs';
import type { JsonObject } from '../protocol/json.ts';
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import type { CredentialObject } from './server/vaults.ts';
import { listCredentials, resolveVault } from './server/vaults.ts';
import type { Terminal } from './terminal/terminal.ts';

export type SecretSetOptions = ServerOptions & {
  vault: string;
  host: string[];
  environmentHosts?: boolean;
  file?: string;
};

export async function secretSet(
  name: string,
  options: SecretSetOptions,
  terminal: Terminal,
): Promise<ExitCode> {
  const networking = networkingOf(options);
  const secret_value = await secretFrom(options.file);
  const client = await connect({ ...options, terminal });
  const vault = await resolveVault(client, options.vault);
  const path = `/v1/vaults/${encodeURIComponent(vault)}/credentials`;
  const before = (await listCredentials(client, vault)).find(({ auth }) => auth.secret_name === name);
  if (before === undefined && networking === null) {
    throw new Refused('a new secret needs the hosts it may be sent to', {
      exitCode: exitCodes.usage,
      hint: 'name them with --host, or say --environment-hosts',
    });
  }
  const value: JsonObject = {
    type: 'environment_variable',
    secret_value,
    ...(networking ? { networking } : {}),
  };
  const auth: JsonObject = before ? value : { ...value, secret_name: name };
  const where = before ? `${path}/${encodeURIComponent(before.id)}` : path;
  const after = await client.post<CredentialObject>(where, { json: { auth } });
  terminal.err(`${before ? 'replaced' : 'stored'} ${name}`);
  terminal.out(after.id);
  return exitCodes.done;
}

function networkingOf({ host, environmentHosts }: SecretSetOptions): JsonObject | null {
  if (environmentHosts === true && host.length > 0)
    throw new Refused('--host and --environment-hosts say different things', { exitCode: exitCodes.usage });
  if (environmentHosts === true) return { type: 'unrestricted' };
  return host.length > 0 ? { type: 'limited', allowed_hosts: host } : null;
}

/** Without the one line end that editors and `echo` put behind it. */
async function secretFrom(file: string | undefined): Promise<string> {
  const text = file === undefined ? await fromStdin() : fromFile(file);
  const value = text.replace(/\r?\n$/, '');
  if (value === '') throw new Refused('the value is empty', { exitCode: exitCodes.usage });
  return value;
}

function fromFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new Refused(`the file of the value can not be read: ${(error as Error & { code?: string }).code}`);
  }
}

async function fromStdin(): Promise<string> {
  if (process.stdin.isTTY) {
    throw new Refused('the value comes from stdin or a file, never from the command line', {
      exitCode: exitCodes.usage,
      hint: 'for example: scriptorium secret set NAME --vault V --host H < value.txt',
    });
  }
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(Buffer.from(chunk as Uint8Array));
  return Buffer.concat(chunks).toString('utf8');
}
