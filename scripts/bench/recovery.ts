/**
 * kill -9 of the server in the middle of a command, until the session moves again.
 *
 * The command waits for a file that is taken away in the moment of the kill, so that nothing but us is waited for, and
 * leaves a mark each time it is run: a recovery that ran it twice is no recovery.
 */

import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { nowMs, until } from './clock.ts';
import type { Figure } from './figure.ts';
import { figure } from './figure.ts';
import { temporaryFolder } from './processes.ts';
import type { ServerSettings } from './server-process.ts';
import { Server } from './server-process.ts';

const inside = '/bench-witness';

type Recovery = { nextEventMs: number; modelRequestMs: number; readyMs: number };

export async function measureRecovery(
  settings: Omit<ServerSettings, 'dataDir'>,
  rounds: number,
): Promise<Figure[]> {
  const dataDir = await temporaryFolder('recovery');
  const witness = join(await temporaryFolder('witness'), 'shared');
  await mkdir(witness);
  await chmod(witness, 0o777);
  const withBind = { ...settings, dataDir, binds: [`${witness}:${inside}`] };
  let server = (await Server.start(withBind)).watch(settings.peer);
  await server.run(await server.createSession(), { steps: '2' });
  const recoveries: Recovery[] = [];
  for (let at = 0; at < rounds; at++) {
    const [next, recovery] = await oneRecovery(server, withBind, witness, at);
    server = next;
    recoveries.push(recovery);
  }
  await server.close();
  return [
    figure(
      'kill -9 mid-command → next event',
      'ms',
      recoveries.map((one) => one.nextEventMs),
      {
        target: 1000,
        note: 'by the time in the log; includes the start of the new server; each command ran once',
      },
    ),
    figure(
      '  → next model request',
      'ms',
      recoveries.map((one) => one.modelRequestMs),
    ),
    figure(
      '  → new server ready',
      'ms',
      recoveries.map((one) => one.readyMs),
    ),
  ];
}

async function oneRecovery(
  server: Server,
  settings: ServerSettings,
  witness: string,
  round: number,
): Promise<[Server, Recovery]> {
  const { peer } = settings;
  const [marks, hold] = [`marks-${round}`, `hold-${round}`];
  await writeFile(join(witness, hold), '');
  // Without isolation there is no bind, and the folder has its own name.
  const place = settings.isIsolated ? inside : witness;
  const command = `echo run >> ${place}/${marks}; while [ -e ${place}/${hold} ]; do sleep 0.005; done`;
  const session = await server.createSession();
  await peer.records();
  const done = peer.done();
  await server.send(session, { steps: '1', command });
  await until('the command to run', 10_000, () => existsSync(join(witness, marks)));
  const seen = await lastEvent(server, session);
  const killedAtMs = nowMs();
  const killedAt = Date.now();
  await Promise.all([server.crash(), rm(join(witness, hold))]);
  const next = (await Server.start(settings)).watch(peer);
  await done;
  await next.rests(session);
  const marksLeft = (await readFile(join(witness, marks), 'utf8')).trim().split('\n');
  if (marksLeft.length !== 1) throw new Error(`the command ran ${marksLeft.length} times`);
  const requests = await peer.records();
  const resumed = requests.find((request) => request.receivedAtMs > killedAtMs);
  return [
    next,
    {
      nextEventMs: (await firstAfter(next, session, seen)) - killedAt,
      modelRequestMs: (resumed?.receivedAtMs ?? Number.NaN) - killedAtMs,
      readyMs: next.readyAtMs - killedAtMs,
    },
  ];
}

async function lastEvent(server: Server, session: string): Promise<string> {
  return (await server.events(session)).at(-1)?.id ?? '';
}

/** When the first event after that one was written. */
async function firstAfter(server: Server, session: string, seen: string): Promise<number> {
  const events = await server.events(session);
  const next = events[events.findIndex(({ id }) => id === seen) + 1];
  if (next === undefined) throw new Error('the session did not move');
  return next.time;
}
