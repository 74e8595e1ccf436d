/**
 * What every engine of the store has to pass unchanged. The cases are in `conformance/`, by clause of the contract;
 * each works on a store in a directory of its own.
 */
import { describe, it } from 'vitest';
import { claimCases } from './conformance/claim-cases.ts';
import { crashCases } from './conformance/crash-cases.ts';
import { logCases } from './conformance/log-cases.ts';
import { modelCases } from './conformance/model-cases.ts';
import { proofCases } from './conformance/proof-cases.ts';
import { requestCases } from './conformance/request-cases.ts';
import { resourceCases } from './conformance/resource-cases.ts';
import type { Cases, Engine } from './conformance/scratch.ts';
import { withScratch } from './conformance/scratch.ts';
import { snapshotCases } from './conformance/snapshot-cases.ts';

const groups: Record<string, Cases> = {
  log: logCases,
  requests: requestCases,
  ownership: claimCases,
  resources: resourceCases,
  proofs: proofCases,
  snapshots: snapshotCases,
  crashes: crashCases,
  model: modelCases,
};

export function storeConformance(name: string, engine: Engine): void {
  describe(`${name} keeps the store contract`, () => {
    for (const [group, cases] of Object.entries(groups)) {
      describe(group, () => {
        for (const [title, run] of Object.entries(cases)) {
          it(title, () => withScratch(engine, run));
        }
      });
    }
  });
}
