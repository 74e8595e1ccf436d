import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { EngineRoom } from '../../test/peers/engine-room.ts';
import type { Store, Touched } from '../store/store.ts';

it('an engine looks for work at an input of a session that is not its own, and not at each step that another engine takes', async () => {
  const room = new EngineRoom();
  let claims = 0;
  let tell: (touched: Touched[]) => void = () => {};
  room.between = (store: Store): Store =>
    Object.assign(Object.create(store), {
      claim: (worker: string, limit: number) => {
        claims++;
        return store.claim(worker, limit);
      },
      onAppend: (listener: typeof tell) => {
        tell = listener;
        return store.onAppend(listener);
      },
    });
  await room.open(() => ({ toolCalls: [] }));
  const claimsDuring = async (touched: Touched): Promise<number> => {
    const before = claims;
    for (let left = 20; left > 0; left--) {
      tell([touched]);
      await sleep(5);
    }
    return claims - before;
  };
  try {
    // The look of each second may fall into it.
    expect(await claimsDuring({ stream: 'elsewhere', head: 7, isOwners: true })).toBeLessThanOrEqual(2);
    expect(await claimsDuring({ stream: 'elsewhere', head: 8, isOwners: false })).toBeGreaterThan(4);
    expect(await claimsDuring({ stream: 'elsewhere', head: 9 })).toBeGreaterThan(4);
  } finally {
    await room.close();
  }
});
