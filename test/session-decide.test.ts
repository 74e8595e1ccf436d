/** Corners of deciding that random lives reach too seldom to be relied on for. */
import { expect, it } from 'vitest';
import { decide as guard } from '../src/guard/guard.ts';
import { decide } from '../src/session/decide.ts';
import type { PinnedTool } from '../src/session/events.ts';
import type { Call, SessionConfig, Turn } from '../src/session/state.ts';
import { initialState } from '../src/session/state.ts';

const call = (id: string, more: Partial<Call>): Call => ({
  id,
  providerCallId: id,
  name: id,
  input: {},
  kind: 'builtin',
  permission: 'allow',
  denyMessage: null,
  confirmation: null,
  isIntended: false,
  isPure: false,
  outcome: null,
  ...more,
});

const running = (...calls: Call[]) =>
  decide({
    ...initialState,
    config: {} as SessionConfig,
    status: 'running',
    turn: { id: 'turn_1', model: null, response: null } as Turn,
    calls,
  }).map((effect) => (effect.type === 'run_tool' ? effect.call.id : effect.type));

const approved: Partial<Call> = { permission: 'ask', confirmation: { result: 'allow', message: null } };

it('a call approved while a later one runs that may change something waits for it, pure or not', () => {
  const begun = call('bash', { isIntended: true });
  expect(running(call('write', approved), begun)).toEqual(['bash']);
  expect(running(call('glob', { ...approved, isPure: true }), begun)).toEqual(['bash']);
});

it('a call that may change something and is approved while a pure one runs waits for it', () => {
  const begun = call('read', { isPure: true, isIntended: true });
  expect(running(call('write', approved), begun)).toEqual(['read']);
});

it('pure calls before one that may change something run together, and it after them', () => {
  const reads = [call('a', { isPure: true }), call('b', { isPure: true })];
  expect(running(...reads, call('bash', {}), call('c', { isPure: true }))).toEqual(['a', 'b']);
});

it('the guard asks where it does not know a policy, and denies a tool of another kind (S4, G1)', () => {
  const judge = (pinned: object, kind: 'builtin' | 'custom') =>
    guard(
      { type: 'agent', id: 'agent_1', version: 1, session: 'sesn_1' },
      { type: 'tool.call', tool: 'bash', kind },
      { type: 'sandbox', session: 'sesn_1' },
      { input: {}, tools: [{ kind: 'builtin', name: 'bash', isPure: false, ...pinned } as PinnedTool] },
    ).permission;
  expect(judge({ policy: 'always_allow' }, 'builtin')).toBe('allow');
  expect(judge({ policy: 'always_ask' }, 'builtin')).toBe('ask');
  expect(judge({ policy: 'of a newer version' }, 'builtin')).toBe('ask');
  expect(judge({ policy: 'always_allow' }, 'custom')).toBe('deny');
});
