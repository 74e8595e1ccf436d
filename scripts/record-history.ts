#!/usr/bin/env node
// Records the golden histories of this version: `node scripts/record-history.ts`, once, when it is released. A folder
// that is there is never written to: old logs are what they are (test/histories/README.md).

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import packageJson from '../package.json' with { type: 'json' };
import type { StoredEvent } from '../src/store/store.ts';
import type { Expectation } from '../test/histories/digest.ts';
import { recordedRequests, replay, sha256Of, stateOf, stepsOf } from '../test/histories/digest.ts';
import type { Scenario } from '../test/histories/scenarios.ts';
import { scenarios } from '../test/histories/scenarios.ts';
import { EngineRoom, tenant } from '../test/peers/engine-room.ts';

const folder = new URL(`../test/histories/${packageJson.version}/`, import.meta.url);

async function record(live: Scenario): Promise<{ log: StoredEvent[]; expected: Expectation }> {
  const room = new EngineRoom();
  try {
    const session = await live(room);
    // Its engine lets go of it first: nothing is to be appended after what is recorded.
    await room.engine.stop();
    const log = await room.log(session);
    const row = await room.store.stream(tenant, session);
    if (room.errors.length > 0) throw new Error('the engine complained', { cause: room.errors[0] });
    const { firstDifference } = await replay(log);
    if (firstDifference) throw new Error(`seq ${firstDifference.seq} does not replay even now`);
    const state = stateOf(log);
    const expected = {
      events: log.length,
      stateSha256: sha256Of(state),
      requests: recordedRequests(log),
      summary: row?.summary ?? null,
      state,
      steps: stepsOf(log),
    };
    return { log, expected };
  } finally {
    await room.close();
  }
}

if (existsSync(folder)) {
  console.error(`${folder.pathname} is there: a version is recorded once, and never again`);
  process.exit(1);
}
const made: [string, string][] = [];
for (const [name, live] of Object.entries(scenarios)) {
  const { log, expected } = await record(live);
  made.push([`${name}.jsonl`, log.map((event) => `${JSON.stringify(event)}\n`).join('')]);
  made.push([`${name}.expected.jsonl`, `${JSON.stringify(expected)}\n`]);
  console.log(`${name}: ${log.length} events, ${expected.requests.length} requests`);
}
// All of them or none, so that a recording that failed half way can be repeated.
mkdirSync(folder);
for (const [name, text] of made) writeFileSync(new URL(name, folder), text, { flag: 'wx' });
