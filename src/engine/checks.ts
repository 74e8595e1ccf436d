/** What anyone may ask of a store: whether it keeps its promises (`fsck.ts`), and a session's requests anew (`replay.ts`). */
import { isUnknown, modelFor } from '../model/catalogue.ts';
import type { Model } from '../model/model.ts';
import type { Store, Tenant } from '../store/store.ts';
import type { FsckPage, FsckPosition } from './fsck.ts';
import { fsckPage } from './fsck.ts';
import type { Replay } from './replay.ts';
import { replaySession } from './replay.ts';

export type StoreChecks = {
  fsck(tenant: Tenant, after: FsckPosition | null): Promise<FsckPage>;
  replay(session: string): Promise<Replay>;
};

/** Renders and never calls: where the provider is and what key it wants shapes no request. */
const rendersOnly = { apiKey: 'never sent' };

export function storeChecks(store: Store): StoreChecks {
  return {
    fsck: (tenant, after) => fsckPage(store, tenant, after),
    replay: (session) => replaySession(store, session, renderer),
  };
}

function renderer(id: string): Model {
  const model = modelFor(id, rendersOnly);
  if (isUnknown(model)) throw new Error(model.unknown);
  return model;
}
