/**
 * What this machine takes, at this very time, for the two things that a step cannot do without: to sync a write to the
 * disk, and to start a program. Other figures are read beside these when the machine is slow or busy.
 */
import { spawn } from 'node:child_process';
import { fdatasync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Figure } from './figure.ts';
import { figure } from './figure.ts';
import { temporaryFolder } from './processes.ts';
import { timed } from './sandbox.ts';

const times = 100;
const sync = promisify(fdatasync);

export async function measureReference(): Promise<Figure[]> {
  const file = await open(join(await temporaryFolder('reference'), 'file'), 'a');
  const bytes = Buffer.alloc(300, 'x');
  const syncs = await timed(times, async () => {
    await file.write(bytes);
    await sync(file.fd);
  });
  await file.close();
  const spawns = await timed(times, () => ended(['-c', 'true']));
  return [
    figure('reference: write 300 bytes + fdatasync', 'ms', syncs, { note: 'a step has three' }),
    figure('reference: bash -c true, started by Node', 'ms', spawns, {
      note: 'a step has one, in its sandbox',
    }),
  ];
}

function ended(args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('/bin/bash', ['--noprofile', '--norc', ...args], { stdio: 'ignore', env: {} });
    child.once('error', reject);
    child.once('exit', () => resolve());
  });
}
