/**
 * A process that appends to one stream for ever, as a client does that comes back with the same key where it was refused. It
 * says how each try ended, one line of JSON each, written synchronously.
 * Arguments: module that exports `open`, directory.
 */
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { appendOf, draft } from '../../src/store/conformance/scratch.ts';
import type { Store } from '../../src/store/store.ts';

/** `unavailable` is the store's word for "not now"; any other failure is `bug`. */
export type Tried = {
  id: string;
  ended: 'ok' | 'duplicate' | 'unavailable' | 'bug';
  firstSeq: number | null;
};

async function tryOnce(store: Store, id: string, isFirst: boolean): Promise<Tried> {
  try {
    const request = { key: id, hash: 'h' };
    const events = [draft({ id, public: { pad: id.repeat(100) } })];
    const result = await store.append(appendOf('s', { create: isFirst, request, events }));
    if (result.status !== 'ok' && result.status !== 'duplicate') return { id, ended: 'bug', firstSeq: null };
    return { id, ended: result.status, firstSeq: result.firstSeq };
  } catch (error) {
    const isRefusal = error instanceof Error && error.name === 'StoreUnavailable';
    return { id, ended: isRefusal ? 'unavailable' : 'bug', firstSeq: null };
  }
}

const [openModule = '', directory = ''] = process.argv.slice(2);
const { open } = (await import(openModule)) as { open(directory: string): Promise<Store> };
const store = await open(directory);
for (let n = 0; ; n++)
  for (let ended: Tried['ended'] = 'unavailable'; ended === 'unavailable'; await sleep(2)) {
    const tried = await tryOnce(store, `a${n}`, n === 0);
    writeSync(1, `${JSON.stringify(tried)}\n`);
    ended = tried.ended;
  }
