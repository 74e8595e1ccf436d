/** `scriptorium environment create`: from a file of config, or from what of a devcontainer.json can be honoured. */
import { readFile } from 'node:fs/promises';
import type { Environment } from '../../protocol/environments.ts';
import type { JsonObject } from '../../protocol/json.ts';
import type { ExitCode } from '../ending.ts';
import { exitCodes, Refused } from '../ending.ts';
import type { ServerOptions } from '../server/connect.ts';
import { connect } from '../server/connect.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { safeText } from '../terminal/text.ts';
import { readDevcontainer } from './devcontainer.ts';

type Options = ServerOptions & { devcontainer?: string; config?: string; json?: boolean };

export async function environmentCreate(
  name: string,
  options: Options,
  terminal: Terminal,
): Promise<ExitCode> {
  const config = await configOf(options, terminal);
  const client = await connect({ ...options, terminal });
  const json = { name, ...(config === null ? {} : { config }) };
  const made = await client.post<Environment>('/v1/environments', { json });
  terminal.out(options.json === true ? JSON.stringify(made) : made.id);
  return exitCodes.done;
}

async function configOf({ devcontainer, config }: Options, terminal: Terminal): Promise<JsonObject | null> {
  if (devcontainer !== undefined && config !== undefined)
    throw new Refused('--devcontainer and --config say different things', { exitCode: exitCodes.usage });
  if (config !== undefined) return parsed(await textOf(config), config);
  if (devcontainer === undefined) return null;
  const read = readDevcontainer(await textOf(devcontainer));
  if (!read.ok)
    throw new Refused(
      `${devcontainer} cannot be honoured:\n${read.refused.map((line) => `  ${line}`).join('\n')}`,
      {
        exitCode: exitCodes.usage,
        hint: 'take these out of a copy of the file, or write a --config of your own',
      },
    );
  for (const note of read.notes) terminal.err(safeText(`note: ${note}`));
  return read.config;
}

function parsed(text: string, file: string): JsonObject {
  try {
    return JSON.parse(text) as JsonObject;
  } catch (error) {
    throw new Refused(`${file} is no JSON: ${(error as Error).message}`, { exitCode: exitCodes.usage });
  }
}

async function textOf(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new Refused(`${file} cannot be read: ${(error as Error).message}`, { exitCode: exitCodes.usage });
  }
}
