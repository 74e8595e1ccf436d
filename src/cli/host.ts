/** `scriptorium host`: lends this machine's sandboxes to a fleet, until it is told to stop. It dials out only. */
import path from 'node:path';
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import type { Terminal } from './terminal/terminal.ts';
import { checkFolder } from './usable-folder.ts';

export type HostOptions = {
  join: string;
  tokenFile: string;
  stateDir: string;
  bind?: string[];
  gatewayDir?: string;
  diskDriver?: string;
  allowUnisolated?: boolean;
  json?: boolean;
};

const diskDrivers = ['auto', 'btrfs', 'ext4', 'reflink', 'tar'] as const;

export async function host(options: HostOptions, terminal: Terminal): Promise<ExitCode> {
  if (!/^https?:\/\/\S+$/.test(options.join))
    throw new Refused('--join is the http(s) address of an api', { exitCode: exitCodes.usage });
  checkFolder(path.resolve(options.stateDir), '--state-dir');
  const diskDriver = diskDrivers.find((name) => name === (options.diskDriver ?? 'auto'));
  if (diskDriver === undefined)
    throw new Refused(`--disk-driver is one of ${diskDrivers.join(', ')}`, { exitCode: exitCodes.usage });
  const { startHostRole } = await import('../main.ts');
  const started = startHostRole({
    url: options.join,
    tokenFile: options.tokenFile,
    stateDir: options.stateDir,
    binds: options.bind ?? [],
    ...(options.gatewayDir === undefined ? {} : { gatewayDir: path.resolve(options.gatewayDir) }),
    diskDriver,
    allowUnisolated: options.allowUnisolated === true,
    onChange: (message) => terminal.err(message),
  });
  const running = await started.catch((error: Error) => {
    throw ['BadSecret', 'BadBind'].includes(error.name) ? new Refused(error.message) : error;
  });
  if ('taken' in running) throw new Refused(running.taken, { exitCode: exitCodes.alreadyRunning });
  terminal.out(options.json === true ? JSON.stringify({ host_id: running.id }) : `host ${running.id}`);
  terminal.goOnUnread();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, running.end);
  // The terminal of whoever started us may close.
  process.on('SIGHUP', () => {});
  await running.ended;
  return exitCodes.done;
}
