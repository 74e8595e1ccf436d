/**
 * An engine whose sessions Restate wakes: as many of these as you like, on one Postgres. This one offers no sandboxes, only
 * conversations; `engineRole` in src/main.ts shows how hosts are attached.
 * Environment: DATABASE_URL, MASTER_KEY_FILE, BLOBS_DIR, ORGANIZATION, PROJECT, MODEL_URL, MODEL_KEY, INGRESS_URL, PORT.
 */
import { createServer } from 'node:http2';
import * as restate from '@restatedev/restate-sdk';
import { assembleEngine } from '../../src/engine/assemble.ts';
import { decide } from '../../src/guard/guard.ts';
import { builtInPrices } from '../../src/model/prices.ts';
import { openBlobs, openStore } from '../../src/store/open.ts';
import type { Store, Tenant } from '../../src/store/store.ts';
import { MemoryExecutor } from '../../test/peers/memory-executor.ts';
import { sessionWaker } from './waker.ts';

const env = (name: string): string => {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
};

const store = await openStore({
  databaseUrl: env('DATABASE_URL'),
  masterKeyFile: env('MASTER_KEY_FILE'),
  summarizeModule: new URL('../../src/session/summary.ts', import.meta.url),
});
const tenant: Tenant = { organization: env('ORGANIZATION'), project: env('PROJECT') };

/** In production leave the built-in waker where it is. Here it finds nothing, so that all there is comes by Restate. */
const withoutBuiltIn = new Proxy(store, {
  get: (target, name) => {
    if (name === 'claim') return async () => [];
    const member: unknown = Reflect.get(target, name);
    return typeof member === 'function' ? member.bind(target) : member;
  },
}) satisfies Store;

const engine = assembleEngine({
  store: withoutBuiltIn,
  blobs: openBlobs(env('BLOBS_DIR')),
  executor: new MemoryExecutor(),
  decide,
  model: { apiKey: env('MODEL_KEY'), baseURL: env('MODEL_URL') },
  prices: builtInPrices,
  limits: { memoryBytes: 1e9, processes: 100, openFiles: 100, tmpBytes: 1e6, fileBytes: 1e9 },
  onPreview: () => undefined,
  onError: (error) => console.error(error),
});
await engine.start();
const services = [sessionWaker({ engine, store, tenant, ingressUrl: env('INGRESS_URL') })];
// Whoever reaches this port can wake sessions, and no more: keep it to Restate (its request identity, or a network of its own).
createServer(restate.createEndpointHandler({ services })).listen(Number(env('PORT')), '127.0.0.1');
