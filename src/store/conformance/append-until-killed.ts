/**
 * A program that appends until it is killed and says what was acknowledged, one line of JSON per append, written
 * synchronously: what its parent has read was acknowledged before the kill.
 * Arguments: module that exports `open`, directory, round.
 */
import { writeSync } from 'node:fs';
import type { Engine } from './scratch.ts';

const streams = 6;

async function main(openModule: string, directory: string, round: string): Promise<void> {
  const { open } = (await import(openModule)) as Pick<Engine, 'open'>;
  const store = await open(directory);
  const tenant = { organization: 'org_one', project: 'proj_one' };
  const append = async (stream: string, n: number, create: boolean): Promise<void> => {
    const id = `${stream}-${round}-${n}`;
    const bare = {
      type: 'test.happened',
      actor: 'child',
      thread: null,
      turn: null,
      call: null,
      causation: null,
    };
    const event = {
      ...bare,
      id,
      audience: 'public' as const,
      public: { id },
      private: { pad: id.repeat(40) },
    };
    const request = { key: id, hash: 'h' };
    const events = [event, { ...event, id: `${id}+` }];
    const result = await store.append({ ...tenant, stream, create, request, events });
    if (result.status !== 'ok') throw new Error(`append ended as ${result.status}`);
    writeSync(1, `${JSON.stringify({ stream, id, firstSeq: result.firstSeq })}\n`);
  };
  const names = Array.from({ length: streams }, (_, n) => `k${n}`);
  // All of them before the first is written to again: later rounds find them there.
  if (round === '0') await Promise.all(names.map((stream) => append(stream, 0, true)));
  const drive = async (stream: string): Promise<void> => {
    for (let n = 1; ; n++) await append(stream, n, false);
  };
  await Promise.all(names.map(drive));
}

const [openModule, directory, round] = process.argv.slice(2);
if (openModule === undefined || directory === undefined || round === undefined) {
  throw new Error('usage: append-until-killed <module> <directory> <round>');
}
await main(openModule, directory, round);
