/**
 * A process that joins a store, claims what is due and appends to it under its fences until it is killed. It says what
 * happens to it, one line of JSON each, written synchronously. A claim that finds nothing is tried again.
 * Arguments: module that exports `open`, directory, options of `open` as JSON.
 */
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { newId } from '../../src/protocol/ids.ts';
import type { AppendResult, Claim, Store } from '../../src/store/store.ts';

export type Said =
  | { what: 'joined'; worker: string }
  | { what: 'lost'; reason: string }
  | { what: 'claimed'; stream: string; fence: number }
  | { what: 'appended'; stream: string; fence: number; status: AppendResult['status'] | 'unavailable' };

function say(said: Said): void {
  writeSync(1, `${JSON.stringify(said)}\n`);
}

async function append(store: Store, { organization, project, stream, fence }: Claim): Promise<string> {
  const bare = { actor: 'child', thread: null, turn: null, call: null, causation: null, private: null };
  const event = {
    ...bare,
    id: newId('event'),
    type: 'test.happened',
    audience: 'public' as const,
    public: {},
  };
  try {
    const { status } = await store.append({ organization, project, stream, fence, events: [event] });
    say({ what: 'appended', stream, fence, status });
    return status;
  } catch {
    say({ what: 'appended', stream, fence, status: 'unavailable' });
    return 'unavailable';
  }
}

async function drive(store: Store, claim: Claim): Promise<void> {
  say({ what: 'claimed', stream: claim.stream, fence: claim.fence });
  while ((await append(store, claim)) !== 'fenced') await sleep(20);
}

async function main(openModule: string, directory: string, options: string): Promise<void> {
  const { open } = (await import(openModule)) as {
    open(directory: string, options: object): Promise<Store>;
  };
  const store = await open(directory, JSON.parse(options) as object);
  const member = await store.join({ pid: process.pid });
  say({ what: 'joined', worker: member.worker });
  member.lost.addEventListener('abort', () => {
    say({ what: 'lost', reason: String(member.lost.reason) });
  });
  for (;;) {
    for (const claim of await store.claim(member.worker, 10)) void drive(store, claim);
    await sleep(20);
  }
}

const [openModule, directory, options] = process.argv.slice(2);
if (openModule === undefined || directory === undefined || options === undefined) {
  throw new Error('usage: store-worker <module> <directory> <options>');
}
await main(openModule, directory, options);
