/**
 * The vault's own changes (rotated keys, refreshed tokens): decided under the head of the organisation's stream and
 * appended to it with their event, never with a value (S1). Others' changes in between make it decide again.
 */
import { newId } from '../../protocol/ids.ts';
import type { JsonObject } from '../../protocol/json.ts';
import type { ResourcePut, Tenant } from '../../store/store.ts';
import { StoreUnavailable } from '../../store/store.ts';
import type { Vault } from './vault.ts';

export type Recorded<T> = {
  type: string;
  facts: JsonObject;
  resources?: ResourcePut[];
  deleteResources?: { kind: string; id: string }[];
  value: T;
};

const maxRounds = 64;

/** `decide` reads, and returns what to record, or the value alone where there is nothing to record. */
export function record<T>(
  vault: Vault,
  { tenant, actor }: { tenant: Tenant; actor: string },
  decide: () => Promise<Recorded<T> | { type: null; value: T }>,
): Promise<T> {
  const { organization, project } = tenant;
  return vault.serially(organization, async () => {
    for (let round = 0; round < maxRounds; round++) {
      const head = (await vault.store.stream(tenant, organization))?.head;
      const change = await decide();
      if (change.type === null) return change.value;
      const { type, facts, value, resources = [], deleteResources = [] } = change;
      const result = await vault.store.append({
        ...{ organization, project, stream: organization, resources, deleteResources },
        ...(head === undefined ? {} : { expectedSeq: head }),
        events: [
          {
            id: newId('event', vault.nowMs()),
            ...{ type, actor, thread: null, turn: null, call: null, causation: null },
            audience: 'operator',
            public: facts,
            private: null,
          },
        ],
      });
      if (result.status === 'ok') return value;
      if (result.status !== 'moved') throw new StoreUnavailable(`a change of a vault: ${result.status}`);
    }
    throw new StoreUnavailable('a change of a vault: others were always quicker');
  });
}
