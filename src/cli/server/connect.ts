/**
 * Finds the server a command talks to: the one that was named, else the one that runs on the data directory, else,
 * for commands that may, one started in the background.
 */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { defaultDataDir } from '../data-dir.ts';
import { Refused } from '../ending.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { checkFolder } from '../usable-folder.ts';
import type { Address } from './client.ts';
import { Client } from './client.ts';
import { answers, readDiscovery } from './discovery.ts';

export type ServerOptions = { url?: string; apiKey?: string; dataDir?: string };

export type Connect = ServerOptions & {
  /** Start a server where none runs. */
  mayStart?: boolean;
  terminal: Terminal;
  patienceMs?: number;
};

const START_TIMEOUT_MS = 20_000;
const POLL_MS = 50;

export async function connect(options: Connect): Promise<Client> {
  const url = options.url ?? process.env.SCRIPTORIUM_URL;
  const apiKey = options.apiKey || process.env.SCRIPTORIUM_API_KEY || null;
  if (url !== undefined && url !== '') {
    const address = { url: checkedUrl(url), apiKey };
    // Later losses are waited for; a server that was never there is most likely a wrong address.
    if (!(await answers(address.url)))
      throw new Refused(`no server answers at ${address.url}`, {
        hint: 'check --url (or SCRIPTORIUM_URL), or start one with: scriptorium up',
      });
    return new Client(address, () => Promise.resolve(address), options.patienceMs);
  }
  const dataDir = options.dataDir ?? defaultDataDir();
  const locate = async (): Promise<Address> => {
    const found = await readDiscovery(dataDir);
    return { url: found?.url ?? '', apiKey: apiKey ?? found?.apiKey ?? null };
  };
  let address = await locate();
  if (!(await answers(address.url))) {
    if (options.mayStart !== true)
      throw new Refused(`no server runs on ${dataDir}`, {
        hint: 'start one with: scriptorium up (or name one with --url or SCRIPTORIUM_URL)',
      });
    await startInBackground(dataDir, options.terminal);
    address = await locate();
  }
  return new Client(address, locate, options.patienceMs);
}

function checkedUrl(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (parsed === null || !/^https?:$/.test(parsed.protocol))
    throw new Refused(`"${url}" is no http(s) URL`, { exitCode: 2 });
  return parsed.href;
}

async function startInBackground(dataDir: string, terminal: Terminal): Promise<void> {
  checkFolder(dataDir);
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const logFile = path.join(dataDir, 'server.log');
  const log = openSync(logFile, 'a', 0o600);
  const program = process.argv[1];
  if (program === undefined) throw new Refused('no server runs', { hint: 'start one with: scriptorium up' });
  const child = spawn(
    process.execPath,
    [...process.execArgv, program, 'up', '--json', '--data-dir', dataDir, '--port', '0'],
    {
      detached: true,
      // On stdout is the fresh key, which belongs into `server.json` alone; problems go to stderr.
      stdio: ['ignore', 'ignore', log],
      env: process.env,
    },
  );
  closeSync(log);
  child.unref();
  let exitCode: number | null = null;
  child.once('exit', (code) => {
    exitCode = code ?? 1;
  });
  const untilMs = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    const found = await readDiscovery(dataDir);
    if (found !== null && (await answers(found.url))) {
      terminal.err(
        terminal.paint(
          'dim',
          `started a server in the background: ${found.url} (process ${found.pid}, log ${logFile})`,
        ),
      );
      return;
    }
    if (exitCode !== null || Date.now() > untilMs) throw startFailed(logFile, exitCode);
    await sleep(POLL_MS);
  }
}

function startFailed(logFile: string, exitCode: number | null): Refused {
  const tail = tailOf(logFile);
  const what = exitCode === null ? 'did not answer in time' : `ended with exit code ${exitCode}`;
  return new Refused(`a server was started in the background and ${what}${tail === '' ? '' : `: ${tail}`}`, {
    hint: `its log is ${logFile}; scriptorium doctor tells what this machine lacks`,
  });
}

function tailOf(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim().split('\n').slice(-3).join(' / ').slice(-600);
  } catch {
    return '';
  }
}
