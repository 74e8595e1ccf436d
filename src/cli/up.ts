/**
 * `scriptorium up`: the server in this process, until it is told to stop. The one file of the command line that starts
 * what it otherwise only talks to.
 *
 * Promises kept here
 * - The key is printed once, when it is made; it lies beside the data (0600) for commands on this machine, unless it
 *   came from the environment, which is then the only place that has it.
 * - Stopping in order lets go of sessions and takes the address back; a second signal stops at once.
 */
import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import type { JsonObject } from '../protocol/json.ts';
import { defaultDataDir } from './data-dir.ts';
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import { registriesOf } from './registries.ts';
import { readDiscovery, retractDiscovery, writeDiscovery } from './server/discovery.ts';
import type { Terminal } from './terminal/terminal.ts';
import { checkFolder } from './usable-folder.ts';

export type UpOptions = {
  dataDir?: string;
  port?: string;
  host?: string;
  json?: boolean;
  bind?: string[];
  resolve?: string[];
  privateNetwork?: string[];
  trustCa?: string;
  limits?: string;
  registry?: string[];
  prices?: string;
  allowUnisolated?: boolean;
};

const DEFAULT_PORT = 7717;

export async function up(options: UpOptions, terminal: Terminal): Promise<ExitCode> {
  const dataDir = path.resolve(options.dataDir ?? defaultDataDir());
  const port = portOf(options.port);
  const binds = (options.bind ?? []).map(checkedBind);
  const before = await readDiscovery(dataDir);
  const given = process.env.SCRIPTORIUM_API_KEY || undefined;
  const server = await start(options, { dataDir, port, binds, given, known: before?.apiKey ?? undefined });
  const isFresh = given === undefined && server.apiKey !== before?.apiKey;
  const apiKey = given === undefined ? server.apiKey : null;
  await writeDiscovery(dataDir, { url: server.url, pid: process.pid, apiKey });
  if (options.json === true) terminal.out(JSON.stringify({ url: server.url, api_key: server.apiKey }));
  else announce(terminal, { url: server.url, dataDir, options, key: isFresh ? server.apiKey : null });
  terminal.goOnUnread();
  await untilToldToStop(terminal);
  await retractDiscovery(dataDir, process.pid);
  await server.close();
  return exitCodes.done;
}

/** What this machine can isolate and what is configured, found out here, without a server. */
export async function doctorHere(dataDir: string): Promise<JsonObject> {
  const main = await import('../main.ts');
  return main.doctor({ dataDir, model: modelOf() });
}

/** The database of a fleet, asked from here. */
export async function databaseDoctor(databaseUrl: string): Promise<JsonObject> {
  const main = await import('../main.ts');
  return { version: main.version, checks: await main.probeDatabase(databaseUrl) };
}

/** The store of a data directory on which no server runs, opened here to be read. */
export async function openChecksHere(dataDir: string) {
  if (!existsSync(path.join(dataDir, 'store')))
    throw new Refused(`there is no store in ${dataDir}`, { hint: 'name the right folder with --data-dir' });
  try {
    const main = await import('../main.ts');
    return await main.openChecks(dataDir);
  } catch (error) {
    const about = { dataDir, port: 0, binds: [], given: undefined, known: undefined };
    throw (await startProblem(error as NodeJS.ErrnoException, about)) ?? error;
  }
}

type Start = {
  dataDir: string;
  port: number;
  binds: string[];
  given: string | undefined;
  known: string | undefined;
};

async function start(options: UpOptions, about: Start) {
  try {
    checkFolder(about.dataDir);
    mkdirSync(about.dataDir, { recursive: true, mode: 0o700 });
    const main = await import('../main.ts');
    return await main.startServer({
      dataDir: about.dataDir,
      port: about.port,
      host: options.host ?? '127.0.0.1',
      model: modelOf(),
      binds: about.binds,
      allowUnisolated: options.allowUnisolated === true,
      network: networkOf(options),
      ...(about.given === undefined ? {} : { apiKey: about.given }),
      ...(about.known === undefined ? {} : { knownApiKey: about.known }),
      registries: registriesOf(options.registry),
      ...(options.limits === undefined ? {} : { limitsFile: options.limits }),
      ...(options.prices === undefined ? {} : { pricesFile: options.prices }),
    });
  } catch (error) {
    throw (await startProblem(error as NodeJS.ErrnoException, about)) ?? error;
  }
}

/** Read by the gateway when a session first needs it; what is wrong is better heard now. */
function networkOf({ resolve: pins = [], privateNetwork: privateNetworks = [], trustCa }: UpOptions) {
  if (trustCa === undefined) return { pins, privateNetworks };
  const authoritiesFile = path.resolve(trustCa);
  if (!existsSync(authoritiesFile))
    throw new Refused(`there is no file ${authoritiesFile}`, { exitCode: exitCodes.usage });
  return { pins, privateNetworks, authoritiesFile };
}

const fileProblems = new Set(['EACCES', 'EPERM', 'EROFS', 'ENOSPC', 'EEXIST', 'ENOTDIR', 'EISDIR', 'ELOOP']);

async function startProblem(error: NodeJS.ErrnoException, about: Start): Promise<Refused | null> {
  if (error instanceof Refused) return error;
  if (error.name === 'StoreLocked') {
    const other = await readDiscovery(about.dataDir);
    const where = other?.url ? ` at ${other.url} (process ${other.pid})` : '';
    return new Refused(`another server runs on ${about.dataDir}${where}`, {
      hint: 'use that one, stop it first, or give this one a --data-dir of its own',
      exitCode: exitCodes.alreadyRunning,
    });
  }
  if (error.name === 'SchemaTooNew' || error.name === 'MasterKeyRefused') return new Refused(error.message);
  if (error.name === 'BadLimits' || error.name === 'BadNetworkSettings')
    return new Refused(error.message, { exitCode: exitCodes.usage });
  if (error.name === 'WeakKey')
    return new Refused(`SCRIPTORIUM_API_KEY cannot be used: ${error.message}`, {
      hint: 'set a longer one, or unset it: a good one is made then',
      exitCode: exitCodes.usage,
    });
  if (error.name === 'HostUnreachable')
    return new Refused(error.message, { hint: 'scriptorium doctor tells what this machine lacks' });
  if (error.code === 'EADDRINUSE')
    return new Refused(`port ${about.port} is taken`, {
      hint: 'choose another with --port (0 takes a free one)',
    });
  if (error.code === 'ENOTFOUND' || error.code === 'EADDRNOTAVAIL')
    return new Refused(`this machine has no such address to listen on (${error.message})`, {
      hint: 'choose another with --host',
    });
  if (error.syscall === 'listen' && (error.code === 'EACCES' || error.code === 'EPERM'))
    return new Refused(`this user may not listen on port ${about.port}`, {
      hint: 'choose another with --port (1024 or above)',
    });
  if (fileProblems.has(error.code ?? ''))
    return new Refused(`${about.dataDir} cannot be used: ${error.message}`, {
      hint: 'choose another with --data-dir',
    });
  return null;
}

function modelOf() {
  return { apiKey: process.env.OPENAI_API_KEY || null, baseURL: process.env.OPENAI_BASE_URL || null };
}

function portOf(text: string | undefined): number {
  if (text === undefined) return DEFAULT_PORT;
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port > 65_535)
    throw new Refused('--port is a number from 0 to 65535', { exitCode: exitCodes.usage });
  return port;
}

function checkedBind(bind: string): string {
  const [from = '', to = '', mode, ...more] = bind.split(':');
  const isGood =
    path.isAbsolute(from) &&
    path.isAbsolute(to) &&
    (mode === undefined || mode === 'ro') &&
    more.length === 0;
  if (!isGood)
    throw new Refused(`--bind ${bind}: it is /from:/to or /from:/to:ro, both absolute`, {
      exitCode: exitCodes.usage,
    });
  return bind;
}

type Announcement = { url: string; dataDir: string; options: UpOptions; key: string | null };

function announce(terminal: Terminal, { url, dataDir, options, key }: Announcement): void {
  terminal.out(`Scriptorium listens on ${terminal.paint('bold', url)}`);
  if (key !== null) {
    terminal.out(`API key: ${terminal.paint('bold', key)}`);
    terminal.out(
      'It is shown this once. Commands on this machine find it by themselves; the server keeps only a hash.',
    );
  }
  terminal.out(terminal.paint('dim', `data: ${dataDir}; stop with Ctrl-C`));
  if (options.allowUnisolated === true)
    terminal.err(
      terminal.paint('red', 'WARNING: --allow-unisolated: agents run with all the rights of this process.'),
    );
  if (options.host !== undefined && !['127.0.0.1', '::1', 'localhost'].includes(options.host))
    terminal.err(
      terminal.paint(
        'yellow',
        `it listens on ${options.host} without TLS: put a proxy with TLS in front of it`,
      ),
    );
  if (modelOf().apiKey === null)
    terminal.err(
      terminal.paint('yellow', 'OPENAI_API_KEY is not set: sessions cannot call a model until it is'),
    );
}

function untilToldToStop(terminal: Terminal): Promise<void> {
  return new Promise((resolve) => {
    let isStopping = false;
    const onSignal = (signal: NodeJS.Signals) => {
      if (isStopping) process.exit(signal === 'SIGINT' ? 130 : 143);
      isStopping = true;
      terminal.err(
        'stopping; running commands go on in their sandboxes for the next start (again to stop at once)',
      );
      resolve();
    };
    process.on('SIGINT', onSignal);
    process.on('SIGTERM', onSignal);
  });
}
