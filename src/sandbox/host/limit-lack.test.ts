import { expect, it } from 'vitest';
import { specOf } from '../../../test/escapes/rig.ts';
import type { SandboxInfo } from '../executor.ts';
import { limitLack } from './limit-lack.ts';

const said: SandboxInfo = {
  ...{ isolation: 'bubblewrap', limitsBy: 'cgroup1', seccomp: true, ownUid: 1, network: 'none' },
  ...{ reused: false, warnings: [] },
};
const spec = specOf('s');
const asking = { ...spec, limits: { ...spec.limits, cpuCores: 1, wallTimeMs: 5 } };

it('a host that says nothing of limits that it was asked for is refused, by their names (S4)', () => {
  expect(limitLack(said, asking)).toMatchObject({
    refused: 'isolation_unavailable',
    message: expect.stringContaining('cpuCores, wallTimeMs'),
  });
});

it('one that says what it enforces is believed, and one that was asked for none of the newer needs not say', () => {
  expect(limitLack({ ...said, limits: [] }, asking)).toBeNull();
  expect(limitLack(said, spec)).toBeNull();
});
