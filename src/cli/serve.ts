/**
 * `scriptorium serve`: one process of a fleet on Postgres, api, engine or both, until it is told to stop. Like `up` it
 * starts what the other commands only talk to.
 *
 * Promises kept here
 * - SIGTERM and SIGINT drain: sessions are handed over, streams end in order, the exit code is 0. A second signal stops
 *   at once.
 * - Secrets come from files and the environment, never from the command line, where the machine's users could read them.
 */
import path from 'node:path';
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import { registriesOf } from './registries.ts';
import type { Terminal } from './terminal/terminal.ts';
import { checkFolder } from './usable-folder.ts';

export type ServeOptions = {
  role: string;
  databaseUrl?: string;
  masterKeyFile: string;
  clusterSecretFile: string;
  dataDir: string;
  listen: string;
  internalListen: string;
  internalAddress?: string;
  hostLostAfter: string;
  drain: string;
  limits?: string;
  registry?: string[];
  prices?: string;
  json?: boolean;
};

export async function serve(options: ServeOptions, terminal: Terminal): Promise<ExitCode> {
  const role = await start(options);
  const { url, internalAddress, apiKey } = role;
  if (options.json === true)
    terminal.out(
      JSON.stringify({ url, internal_address: internalAddress, api_key: apiKey, pid: process.pid }),
    );
  else {
    if (url !== null) terminal.out(`Scriptorium listens on ${terminal.paint('bold', url)}`);
    if (internalAddress !== null) terminal.out(`hosts and apis find its engine at ${internalAddress}`);
    if (apiKey !== null && !process.env.SCRIPTORIUM_API_KEY)
      terminal.out(`API key, shown this once: ${terminal.paint('bold', apiKey)}`);
  }
  terminal.goOnUnread();
  await untilSignal(() => terminal.err('draining: sessions are handed over (again to stop at once)'));
  await role.drain();
  return exitCodes.done;
}

async function start(options: ServeOptions) {
  const databaseUrl = options.databaseUrl ?? (process.env.SCRIPTORIUM_DATABASE_URL || undefined);
  if (databaseUrl === undefined)
    throw usage(
      'serve needs a Postgres: --database-url, or SCRIPTORIUM_DATABASE_URL',
      'one machine needs none: scriptorium up',
    );
  const listen = addressOf(options.listen, '--listen');
  const internal = addressOf(options.internalListen, '--internal-listen');
  if (options.internalAddress !== undefined) addressOf(options.internalAddress, '--internal-address');
  const apiKey = process.env.SCRIPTORIUM_API_KEY || undefined;
  checkFolder(path.resolve(options.dataDir));
  const { startRole } = await import('../main.ts');
  try {
    return await startRole({
      roles: rolesOf(options.role),
      databaseUrl,
      masterKeyFile: path.resolve(options.masterKeyFile),
      clusterSecretFile: path.resolve(options.clusterSecretFile),
      dataDir: path.resolve(options.dataDir),
      ...listen,
      internal,
      hostLostAfterMs: secondsOf(options.hostLostAfter, '--host-lost-after') * 1000,
      drainMs: secondsOf(options.drain, '--drain') * 1000,
      model: { apiKey: process.env.OPENAI_API_KEY || null, baseURL: process.env.OPENAI_BASE_URL || null },
      ...(apiKey === undefined ? {} : { apiKey }),
      ...(options.internalAddress === undefined ? {} : { internalAddress: options.internalAddress }),
      registries: registriesOf(options.registry),
      ...(options.limits === undefined ? {} : { limitsFile: options.limits }),
      ...(options.prices === undefined ? {} : { pricesFile: options.prices }),
    });
  } catch (error) {
    throw problemOf(error as NodeJS.ErrnoException) ?? error;
  }
}

const expected = new Set([
  'BadLimits',
  'BadSecret',
  'MasterKeyRefused',
  'SchemaTooNew',
  'StoreUnavailable',
  'WeakKey',
]);

function problemOf(error: NodeJS.ErrnoException): Refused | null {
  if (expected.has(error.name)) return new Refused(error.message);
  if (error.code === 'EADDRINUSE' || error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND')
    return new Refused(`it cannot listen there: ${error.message}`);
  return null;
}

function rolesOf(text: string): { api: boolean; engine: boolean } {
  const names = text.split(',');
  if (names.some((name) => name !== 'api' && name !== 'engine'))
    throw usage('--role is api, engine, or api,engine');
  return { api: names.includes('api'), engine: names.includes('engine') };
}

function addressOf(text: string, name: string): { host: string; port: number } {
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(text);
  const port = Number(found?.[3]);
  if (found === null || port > 65_535) throw usage(`${name} is an address and a port, as in 0.0.0.0:8080`);
  return { host: found[1] ?? found[2] ?? '', port };
}

function secondsOf(text: string, name: string): number {
  if (!/^\d{1,7}$/.test(text)) throw usage(`${name} is a number of seconds`);
  return Number(text);
}

function usage(message: string, hint?: string): Refused {
  return new Refused(message, { exitCode: exitCodes.usage, ...(hint === undefined ? {} : { hint }) });
}

function untilSignal(onSignal: () => void): Promise<void> {
  return new Promise((resolve) => {
    let isStopping = false;
    for (const signal of ['SIGINT', 'SIGTERM'] as const)
      process.on(signal, () => {
        if (isStopping) process.exit(signal === 'SIGINT' ? 130 : 143);
        isStopping = true;
        onSignal();
        resolve();
      });
  });
}
