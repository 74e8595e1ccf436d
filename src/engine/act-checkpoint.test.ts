/** Hosts that are away, for a while or for good, while a workspace is to be put back. */
import { expect, it } from 'vitest';
import { MemoryExecutor } from '../../test/peers/memory-executor.ts';
import { HostAway } from '../sandbox/executor.ts';
import { initialState } from '../session/state.ts';
import { type DiskAccess, restoreCheckpoint } from './act-checkpoint.ts';
import { minter } from './draft.ts';

type Carried = Awaited<ReturnType<Parameters<typeof restoreCheckpoint>[0]['carryUploads']>>;

function restore(
  fromSession: string | null,
  isLost: boolean,
  { isAway = true, carried = { ok: true } as Carried } = {},
) {
  const executor = new MemoryExecutor();
  executor.restore = async () => {
    if (isAway) throw new HostAway('host-a', 1e6);
    return {};
  };
  const disk: DiskAccess = { executor, session: 'sesn_1', fence: 1, isLost: async () => isLost };
  const restoring = { callId: 'sevt_1', checkpoint: 'ckpt_1', fromSession };
  const act = { restoring, disk, carryUploads: async () => carried, isAbandoned: () => false };
  return restoreCheckpoint(act, initialState, minter('wrkr_1'));
}

it('waits in the store for a host that is away and may come back', async () => {
  await expect(restore('sesn_0', false)).rejects.toThrow(HostAway);
  await expect(restore(null, false)).rejects.toThrow(HostAway);
});

it('ends a fork whose host is given up, and leaves a session that wanted to go back as it was', async () => {
  const fork = await restore('sesn_0', true);
  expect(fork.map(({ type }) => type)).toEqual([
    'session.error',
    'session.thread_status_terminated',
    'session.status_terminated',
  ]);
  expect(JSON.stringify(fork[0]?.public)).toContain('host-a');
  const back = await restore(null, true);
  expect(back).toMatchObject([{ type: 'session.rollback_failed', public: { checkpoint_id: 'ckpt_1' } }]);
});

it('says that a fork has its workspace only when its uploads are there too', async () => {
  const isAway = false;
  expect(await restore('sesn_0', false, { isAway })).toMatchObject([{ type: 'workspace.restored' }]);
  const carried = { ok: false as const, message: 'a.csv is not stored any more.' };
  const [error] = await restore('sesn_0', false, { isAway, carried });
  expect(JSON.stringify(error?.public)).toContain('a.csv');
});
