import { describe, expect, it } from 'vitest';
import type { PinnedTool } from '../session/events.ts';
import { type Action, decide } from './guard.ts';

const tools: PinnedTool[] = [
  { kind: 'builtin', name: 'bash', policy: 'always_ask', isPure: false },
  { kind: 'builtin', name: 'read', policy: 'always_allow', isPure: true },
  { kind: 'custom', name: 'lookup', policy: 'always_allow', isPure: true },
];
const ask = (tool: string, kind: Action['kind'] = 'builtin', pinned: PinnedTool[] = tools) =>
  decide(
    { type: 'agent', id: 'agent_1', version: 1, session: 'sesn_1' },
    { type: 'tool.call', tool, kind },
    { type: 'sandbox', session: 'sesn_1' },
    { input: {}, tools: pinned },
  );

describe('the one door (G1)', () => {
  it('lets through and asks as the session has pinned it, and says which rule it was', () => {
    expect(ask('read')).toEqual({ permission: 'allow', evaluation: { type: 'always_allow' } });
    expect(ask('bash')).toEqual({ permission: 'ask', evaluation: { type: 'always_ask' } });
  });

  it.each(['rm', '', '__proto__', 'constructor', 'Bash', 'bash '])(
    'denies the tool %j, which nobody enabled',
    (name) => {
      expect(ask(name)).toMatchObject({ permission: 'deny' });
      expect(ask(name).evaluation).toBeUndefined();
    },
  );

  it('does not take a client’s tool for a built-in one of the same name, nor the other way round', () => {
    expect(ask('lookup', 'builtin').permission).toBe('deny');
    expect(ask('read', 'custom').permission).toBe('deny');
  });

  it('asks where it does not know the policy, which a later version may have written (S4)', () => {
    const later = [
      { kind: 'builtin', name: 'bash', policy: 'four_eyes', isPure: false },
    ] as unknown as PinnedTool[];
    expect(ask('bash', 'builtin', later)).toMatchObject({ permission: 'ask' });
  });
});
