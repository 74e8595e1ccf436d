/**
 * A store between an engine and the real one: one that watches what it is given, one that fails when told to. Neither
 * changes what goes through.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Append, Store } from '../../src/store/store.ts';
import { StoreUnavailable } from '../../src/store/store.ts';

export type Method = 'append' | 'release' | 'claim' | 'read' | 'join' | 'reapDead' | 'nextWakeAt' | 'stream';

/** L7: what an engine folded and what is read back must be one and the same; complains of payloads that are no JSON. */
export function watched(store: Store, complain: (problem: Error) => void): Store {
  return through(store, async (method, args, go) => {
    if (method === 'append') {
      for (const { type, ...event } of (args[0] as Append).events) {
        for (const payload of [event.public, event.private]) {
          const readBack: unknown = JSON.parse(JSON.stringify(payload));
          if (!isDeepStrictEqual(payload, readBack)) complain(new Error(`${type} is read back as another`));
        }
      }
    }
    return go();
  });
}

/** Fails a call with `StoreUnavailable` before it was made, or after, where `when` says so. */
export function failing(
  store: Store,
  when: (method: Method, args: unknown[]) => 'before' | 'after' | null,
  onFailure: () => void = () => undefined,
): Store {
  const fail = (): never => {
    onFailure();
    throw new StoreUnavailable('injected');
  };
  return through(store, async (method, args, go) => {
    const failure = when(method, args);
    if (failure === 'before') return fail();
    const result = await go();
    return failure === 'after' ? fail() : result;
  });
}

const methods = new Set<string | symbol>([
  'append',
  'release',
  'claim',
  'read',
  'join',
  'reapDead',
  'nextWakeAt',
  'stream',
] satisfies Method[]);

export function through(
  store: Store,
  call: (method: Method, args: unknown[], go: () => Promise<unknown>) => Promise<unknown>,
): Store {
  return new Proxy(store, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== 'function') return member;
      if (!methods.has(name)) return member.bind(target);
      return (...args: unknown[]) =>
        call(name as Method, args, () => member.apply(target, args) as Promise<unknown>);
    },
  });
}
