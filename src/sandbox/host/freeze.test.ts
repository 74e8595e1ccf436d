import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually, Rig, specOf, unrefused } from '../../../test/escapes/rig.ts';

/** A tree of processes, one of which has left its group and session, that count in files. */
const counting =
  'setsid sh -c "while :; do echo x >> apart; sleep 0.02; done" & ' +
  '(while :; do echo x >> child; sleep 0.02; done) & while :; do echo x >> own; sleep 0.02; done';

describe('a call whose owner was replaced', () => {
  let rig: Rig;
  beforeAll(async () => {
    // Plain folders: what the session writes is looked at from outside.
    rig = await Rig.start({ diskDriver: 'tar' });
  });
  afterAll(() => rig.close());

  const counted = (session: string): number[] =>
    ['apart', 'child', 'own'].map((name) => {
      const file = path.join(rig.stateDir, 'sessions', session, 'workspace', name);
      try {
        return readFileSync(file, 'utf8').length;
      } catch {
        return 0;
      }
    });
  const run = async (session: string): Promise<string> => {
    await rig.create(session);
    const start = rig.start(session, ['sh', '-c', counting], { waitMs: 0, timeoutMs: 60_000 });
    unrefused(await rig.client.startProcess(start));
    await eventually('all of them count', () => counted(session).every((n) => n > 3));
    return start.callId;
  };
  const moves = async (session: string): Promise<boolean> => {
    const before = counted(session);
    await sleep(250);
    return counted(session).every((n, i) => n > (before[i] ?? 0));
  };
  const isStill = async (session: string): Promise<boolean> => {
    const before = counted(session);
    await sleep(250);
    return counted(session).every((n, i) => n === before[i]);
  };

  it('holds still as a whole tree from the first word of the new one, until that one asks about it', async () => {
    const callId = await run('held');
    const next = await rig.connect();
    unrefused(await next.createSandbox(specOf('held', { fence: 2 })));
    expect(await isStill('held')).toBe(true);
    const refused = await rig.client.readProcess({
      ...{ session: 'held', fence: 1, callId },
      ...{ afterSeq: 0, maxBytes: 1000, waitMs: 0 },
    });
    expect(refused).toMatchObject({ refused: 'fenced' });
    expect(await isStill('held')).toBe(true);
    // The sandbox answers all the while: only what the session runs is held.
    expect(await next.stat({ session: 'held', fence: 2, path: '/workspace/own' })).toMatchObject({
      type: 'file',
    });
    const status = await next.callStatus({ session: 'held', fence: 2, callId });
    expect(status).toMatchObject({ kind: 'process', process: { state: 'running' } });
    expect(await moves('held')).toBe(true);
    unrefused(await next.terminateProcess({ session: 'held', fence: 2, callId }));
    expect(await isStill('held')).toBe(true);
    await next.close();
  });

  it('is ended while it is held, and leaves nothing', async () => {
    const callId = await run('ended');
    const next = await rig.connect();
    unrefused(await next.createSandbox(specOf('ended', { fence: 2 })));
    unrefused(await next.terminateProcess({ session: 'ended', fence: 2, callId }));
    expect(await isStill('ended')).toBe(true);
    await next.close();
  });

  it('goes on undisturbed where the owner is the same', async () => {
    await run('same');
    unrefused(await rig.client.createSandbox(specOf('same')));
    expect(await moves('same')).toBe(true);
  });
});
