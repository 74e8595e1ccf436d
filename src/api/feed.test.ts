import { describe, expect, it } from 'vitest';
import type { StoredEvent } from '../store/store.ts';
import { eventFeed, feedBatch } from './feed.ts';

type Touched = { stream: string; head: number }[];

/** Answers reads when it is told to, with the log as it was when the read began. */
class SlowLog {
  readonly log: number[] = [];
  reads = 0;
  #answers: (() => void)[] = [];
  #listener: (touched: Touched) => void = () => {};

  onAppend(listener: (touched: Touched) => void): () => void {
    this.#listener = listener;
    return () => {};
  }

  read(_stream: string, afterSeq: number, limit: number): Promise<StoredEvent[]> {
    this.reads += 1;
    const seen = this.log.filter((seq) => seq > afterSeq).slice(0, limit);
    return new Promise((resolve) => {
      this.#answers.push(() => resolve(seen.map((seq) => ({ seq }) as StoredEvent)));
    });
  }

  append(): void {
    this.log.push(this.log.length + 1);
    this.#listener([{ stream: 's', head: this.log.length }]);
  }

  answer(): void {
    for (const answer of this.#answers.splice(0)) answer();
  }
}

const seqsOf = (events: readonly StoredEvent[]): number[] => events.map(({ seq }) => seq);

describe('the feed', () => {
  it('reads once for a thousand readers who want the same, and again for one who comes later', async () => {
    const log = new SlowLog();
    const feed = eventFeed(log);
    log.append();
    const all = Array.from({ length: 1_000 }, () => feed.read('s', 0));
    const elsewhere = feed.read('s', 1);
    expect(log.reads).toBe(2);
    log.answer();
    for (const events of await Promise.all(all)) expect(seqsOf(events)).toEqual([1]);
    expect(await elsewhere).toEqual([]);
    const later = feed.read('s', 0);
    log.answer();
    expect(seqsOf(await later)).toEqual([1]);
    expect(log.reads).toBe(3);
  });

  it('lets no reader who heard of an append join a read that began before it and does not see it', async () => {
    const log = new SlowLog();
    const feed = eventFeed(log);
    log.append();
    const early = feed.read('s', 0);
    const heard = new Promise<readonly StoredEvent[]>((resolve) => {
      feed.watch('s', () => resolve(feed.read('s', 0)));
    });
    log.append();
    log.answer();
    expect(seqsOf(await early)).toEqual([1]);
    expect(seqsOf(await heard)).toEqual([1, 2]);
  });

  it('gives a failed read to those who waited for it, and to nobody after them', async () => {
    let fails = true;
    const log = new SlowLog();
    const feed = eventFeed({
      onAppend: (listener) => log.onAppend(listener),
      read: () => (fails ? Promise.reject(new Error('no disk')) : Promise.resolve([])),
    });
    const both = [feed.read('s', 0), feed.read('s', 0)];
    for (const one of both) await expect(one).rejects.toThrow('no disk');
    fails = false;
    expect(await feed.read('s', 0)).toEqual([]);
  });

  it('asks for no more than a batch', async () => {
    const log = new SlowLog();
    const feed = eventFeed(log);
    for (let at = 0; at <= feedBatch; at++) log.append();
    const read = feed.read('s', 0);
    log.answer();
    expect((await read).length).toBe(feedBatch);
  });
});
