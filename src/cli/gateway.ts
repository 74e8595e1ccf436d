/** `scriptorium gateway`: the way out of this machine's sandboxes, for a fleet, until it is told to stop. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import type { Terminal } from './terminal/terminal.ts';
import { checkFolder } from './usable-folder.ts';

export type GatewayOptions = {
  join: string;
  tokenFile: string;
  stateDir: string;
  captureDir?: string;
  resolve?: string[];
  privateNetwork?: string[];
  trustCa?: string;
  json?: boolean;
};

export async function gateway(options: GatewayOptions, terminal: Terminal): Promise<ExitCode> {
  const { captureDir, trustCa } = options;
  if (!/^https?:\/\/\S+$/.test(options.join))
    throw new Refused('--join is the http(s) address of an api', { exitCode: exitCodes.usage });
  checkFolder(path.resolve(options.stateDir), '--state-dir');
  if (captureDir !== undefined) checkFolder(path.resolve(captureDir), '--capture-dir');
  if (trustCa !== undefined && !existsSync(trustCa))
    throw new Refused(`there is no file ${trustCa}`, { exitCode: exitCodes.usage });
  const { startGatewayRole } = await import('../main.ts');
  const started = startGatewayRole({
    url: options.join,
    tokenFile: options.tokenFile,
    stateDir: options.stateDir,
    pins: options.resolve ?? [],
    privateNetworks: options.privateNetwork ?? [],
    onChange: (message) => terminal.err(message),
    ...(captureDir === undefined ? {} : { captureDir }),
    ...(trustCa === undefined ? {} : { authoritiesFile: path.resolve(trustCa) }),
  });
  const running = await started.catch((error: Error) => {
    throw ['BadSecret', 'BadNetworkSettings'].includes(error.name) ? new Refused(error.message) : error;
  });
  if ('taken' in running) throw new Refused(running.taken, { exitCode: exitCodes.alreadyRunning });
  const { name, captureDir: folder } = running;
  const line = JSON.stringify({ name, capture_dir: folder });
  terminal.out(options.json === true ? line : `gateway of host ${name}; its --gateway-dir is ${folder}`);
  terminal.goOnUnread();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, running.end);
  // The terminal of whoever started us may close.
  process.on('SIGHUP', () => {});
  await running.ended;
  return exitCodes.done;
}
