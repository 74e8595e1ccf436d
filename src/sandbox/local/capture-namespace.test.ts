// Capture namespaces without a sandbox: where they cannot be made, and the pool of them.
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isAlive } from '../../../test/escapes/rig.ts';
import { findPrograms } from '../host/programs.ts';
import { CaptureNamespace, type CaptureProblem } from './capture-namespace.ts';
import { CapturePool } from './capture-pool.ts';

const programs = findPrograms();
const isRoot = process.getuid?.() === 0;
let folder: string;
let gateway: string;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'scriptorium-namespace-'));
  gateway = path.join(folder, 'gateway');
  mkdirSync(gateway);
  chmodSync(gateway, 0o711);
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

function made(result: CaptureNamespace | CaptureProblem): CaptureNamespace {
  if ('problem' in result) throw new Error(result.problem);
  return result;
}

describe.skipIf(process.platform !== 'linux' || programs.nft === null)('a capture namespace', () => {
  it.each([
    ['nft is missing', { nft: null }, 'Install the package "nftables"'],
    ['the kernel takes no rules', { nft: '/bin/false' }, 'nf_tables'],
    ['nft cannot be executed', { nft: '/etc/hostname' }, 'nft'],
  ])('is a problem with its remedy where %s', async (_, lack, words) => {
    const result = await CaptureNamespace.start({ ...programs, ...lack }, gateway);
    expect(result).toEqual({ problem: expect.stringContaining(words) });
  });

  it("is a problem with its remedy where the gateway's folder is not there", async () => {
    const result = await CaptureNamespace.start(programs, path.join(folder, 'nowhere'));
    expect(result).toEqual({ problem: expect.stringContaining('start the gateway first') });
  });

  it('says that no gateway answers, and ends with what held it', async () => {
    const namespace = made(await CaptureNamespace.start(programs, gateway));
    const answer = namespace.present('ticket');
    await namespace.stop();
    expect(await answer).toContain('has ended');
    expect(await namespace.present('ticket')).toBe('the capture namespace has ended');
    expect(namespace.join()).toEqual({ problem: expect.stringContaining('it has ended') });
  });

  it.runIf(isRoot)('can be made from a checkout that only root may enter', async () => {
    const closed = path.join(folder, 'closed');
    mkdirSync(closed, { mode: 0o700 });
    const netprep = path.join(closed, 'netprep');
    cpSync(programs.netprep, netprep);
    expect(existsSync(netprep)).toBe(true);
    await made(await CaptureNamespace.start({ ...programs, netprep }, gateway)).stop();
  });
});

describe.skipIf(process.platform !== 'linux' || programs.nft === null)('the pool', () => {
  it('hands out one made ahead, never one that died meanwhile, and ends the rest when it is closed', async () => {
    const pool = new CapturePool(programs, gateway);
    pool.fill();
    await eventuallySpare(pool, 2);
    const [first, second] = pool.waiting;
    process.kill(first as number, 'SIGKILL');
    // Dead, and this process has been told.
    while (isAlive(first as number)) await delay(5);
    await delay(50);
    const taken = made(await pool.take());
    expect(taken.pid).toBe(second);
    await eventuallySpare(pool, 2);
    const left = pool.waiting;
    await pool.close();
    expect(left.filter(isAlive)).toEqual([]);
    expect(isAlive(second as number)).toBe(true);
    await taken.stop();
    expect(isAlive(second as number)).toBe(false);
    expect(await pool.take()).toEqual({ problem: 'the host is ending' });
  });
});

async function eventuallySpare(pool: CapturePool, count: number): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt++) {
    if (pool.waiting.length === count) return;
    await delay(20);
  }
  throw new Error(`never ${count} spare namespaces`);
}
