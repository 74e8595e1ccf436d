// The gateway's process against those who share its machine: whoever may send it a signal must not get a debugger of it (S1).
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { OwnGateway } from '../src/gateway/process/adopt.ts';
import { findPrograms } from '../src/sandbox/host/programs.ts';

let stateDir: string;
let gateway: OwnGateway;

beforeEach(async () => {
  stateDir = await mkdtemp(path.join(tmpdir(), 'scriptorium-gateway-'));
  gateway = new OwnGateway({ stateDir, programs: findPrograms(), pins: [], privateNetworks: [] });
});
afterEach(async () => {
  await gateway.leave(false);
  await rm(stateDir, { recursive: true, force: true });
});

it('a signal opens no debugger, by which every user of the machine could read secrets out of it', async () => {
  const { pid } = await gateway.client.hello();
  process.kill(pid, 'SIGUSR1');
  await gateway.client.generation();
  await delay(300);
  expect(await readFile(path.join(stateDir, 'gateway.log'), 'utf8')).not.toMatch(/debugger|inspector/i);
  expect((await gateway.client.hello()).pid).toBe(pid);
});
