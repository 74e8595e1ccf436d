import { expect, test } from 'vitest';
import { compilePolicy, decide, type Rules } from '../gateway/rules.ts';
import type { Networking } from '../protocol/environments.ts';
import type { NetworkAnswer } from '../session/state.ts';
import { networkPolicy, reachesNobody } from './network-policy.ts';

type Limited = Extract<Networking, { type: 'limited' }>;

function limited(fields: Partial<Limited> = {}): Limited {
  const closed = { allowed_hosts: [], allow_mcp_servers: false, allow_package_managers: false };
  return { type: 'limited', ...closed, ...fields };
}

function effectOf(networking: Networking, host: string, answers: NetworkAnswer[] = [], port = 443): string {
  const rules = compilePolicy(networkPolicy(networking, answers, ['mcp.example']));
  return decide(rules as Rules, { host, port, request: { method: 'GET', target: '/' } }).effect;
}

test('an environment that names nobody reaches nobody, whatever the protocol’s default would be', () => {
  expect(reachesNobody(networkPolicy(limited(), [], []))).toBe(true);
  expect(reachesNobody(networkPolicy(limited({ allow_mcp_servers: true }), [], []))).toBe(true);
  expect(reachesNobody(networkPolicy({ type: 'unrestricted' }, [], []))).toBe(false);
  expect(reachesNobody(networkPolicy(limited({ unknown_hosts: 'ask' }), [], []))).toBe(false);
});

test('the flags open what they name and nothing else', () => {
  expect(effectOf(limited({ allow_package_managers: true }), 'registry.npmjs.org')).toBe('allow');
  expect(effectOf(limited({ allow_package_managers: true }), 'npmjs.org')).toBe('deny');
  expect(effectOf(limited({ allow_mcp_servers: true }), 'mcp.example')).toBe('allow');
  expect(effectOf(limited(), 'mcp.example')).toBe('deny');
});

const asks = limited({
  rules: [
    { effect: 'ask', hosts: ['*.corp.example'], ports: null, methods: null, paths: null },
    { effect: 'deny', hosts: ['never.corp.example'], ports: null, methods: null, paths: null },
  ],
});

test('a person’s yes stands above the rule that asked, and below one that denies', () => {
  const yes = (host: string): NetworkAnswer[] => [{ host, result: 'allow' }];
  expect(effectOf(asks, 'a.corp.example')).toBe('ask');
  expect(effectOf(asks, 'a.corp.example', yes('a.corp.example'))).toBe('allow');
  expect(effectOf(asks, 'b.corp.example', yes('a.corp.example'))).toBe('ask');
  expect(effectOf(asks, 'never.corp.example', yes('never.corp.example'))).toBe('deny');
});

test('a person’s no is a no on every port', () => {
  const no: NetworkAnswer[] = [{ host: 'a.corp.example', result: 'deny' }];
  expect(effectOf(asks, 'a.corp.example', no)).toBe('deny');
  expect(effectOf(limited({ unknown_hosts: 'ask' }), 'a.corp.example', no, 8443)).toBe('deny');
});
