import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { policy, rule } from '../../test/peers/gateway-world.ts';
import { canonicalName, isProblem, matchesHost, parsePattern } from './pattern.ts';
import type { NetworkPolicy, NetworkRule, RuleEffect } from './policy.ts';
import { gitHosts, packageManagerHosts } from './presets.ts';
import { readPath } from './request-path.ts';
import {
  compilePolicy,
  decide,
  decideConnection,
  mayResolve,
  needsTermination,
  type Rules,
} from './rules.ts';

function compiled(given: NetworkPolicy): Rules {
  const rules = compilePolicy(given);
  if (isProblem(rules)) throw new Error(`${rules.field} ${rules.problem}`);
  return rules;
}

const names = fc.constantFrom(
  'example.com',
  'a.example.com',
  'b.a.example.com',
  'notexample.com',
  'com.example',
);
const patterns = fc.constantFrom('example.com', '*.example.com', 'a.example.com', 'com.example', '10.0.0.1');
const rules = fc.array(
  fc.record({
    id: fc.constantFrom('a', 'b', 'c', 'd'),
    effect: fc.constantFrom<RuleEffect>('allow', 'ask', 'deny'),
    hosts: fc.array(patterns, { minLength: 1, maxLength: 2 }),
    ports: fc.constantFrom<number[] | null>(null, [443], [80, 8080]),
    methods: fc.constantFrom<string[] | null>(null, ['GET'], ['POST', 'GET']),
    paths: fc.constantFrom<string[] | null>(null, ['/v1/**'], ['/v1/a', '/v*']),
  }),
  { maxLength: 6 },
);
const otherwise = fc.constantFrom<RuleEffect>('allow', 'ask', 'deny');
const wheres = fc.record({
  host: names,
  port: fc.constantFrom(80, 443, 8080, 22),
  request: fc.constantFrom(undefined, { method: 'GET', target: '/v1/a?q' }, { method: 'PUT', target: '/x' }),
});

function where(given: {
  host: string;
  port: number;
  request: { method: string; target: string } | undefined;
}) {
  const { request, ...place } = given;
  return request ? { ...place, request } : place;
}

describe('a policy', () => {
  it('decides the same in any order of its rules', () => {
    fc.assert(
      fc.property(rules, otherwise, wheres, fc.nat(), (list, rest, at, seed) => {
        const turned = [...list.slice(seed % (list.length + 1)), ...list.slice(0, seed % (list.length + 1))];
        const one = decide(compiled(policy(list, { otherwise: rest })), where(at));
        expect(decide(compiled(policy(turned.reverse(), { otherwise: rest })), where(at))).toEqual(one);
      }),
    );
  });

  it('lets a deny win over everything, whatever is added to it', () => {
    fc.assert(
      fc.property(rules, otherwise, wheres, (list, rest, at) => {
        const deny: NetworkRule = rule({ id: 'no', effect: 'deny', hosts: [at.host] });
        const all = compiled(policy([...list, deny], { otherwise: rest }));
        expect(decide(all, where(at)).effect).toBe('deny');
        expect(decideConnection(all, at.host, at.port).effect).toBe('deny');
        expect(mayResolve(all, at.host)).toBe(false);
      }),
    );
  });

  it('never refuses a connection whose request it would allow, nor lets one pass unjudged that it may deny', () => {
    fc.assert(
      fc.property(rules, otherwise, wheres, (list, rest, at) => {
        const all = compiled(policy(list, { otherwise: rest }));
        const connection = decideConnection(all, at.host, at.port);
        const request = decide(all, where(at));
        if (request.effect !== 'deny') {
          expect(connection.effect).not.toBe('deny');
          expect(mayResolve(all, at.host)).toBe(true);
        }
        if (!connection.perRequest && at.request) expect(request.effect).toBe(connection.effect);
        expect(needsTermination(all, [], at.host, at.port)).toBe(connection.perRequest);
      }),
    );
  });

  it('asks where a rule asks and another allows; two ports are meant where none is named, all for a deny', () => {
    const all = compiled(
      policy([
        rule({ id: 'yes', hosts: ['example.com'] }),
        rule({ id: 'hm', effect: 'ask', hosts: ['example.com'], ports: [443] }),
        rule({ id: 'no', effect: 'deny', hosts: ['evil.com'] }),
      ]),
    );
    expect(decide(all, { host: 'example.com', port: 443 })).toMatchObject({ effect: 'ask', rule: 'hm' });
    expect(decide(all, { host: 'example.com', port: 80 })).toMatchObject({ effect: 'allow', rule: 'yes' });
    expect(decide(all, { host: 'example.com', port: 22 })).toMatchObject({
      effect: 'deny',
      rule: 'otherwise',
    });
    expect(decide(all, { host: 'evil.com', port: 22 })).toMatchObject({ effect: 'deny', rule: 'no' });
  });

  it('does not reach an address that no rule names, even where everything else is allowed', () => {
    const all = compiled(policy([rule({ hosts: ['192.0.2.1'] })], { otherwise: 'allow' }));
    expect(decide(all, { host: '192.0.2.1', port: 443 }).effect).toBe('allow');
    expect(decide(all, { host: '192.0.2.2', port: 443 }).effect).toBe('deny');
  });

  it.each([
    [{ hosts: [] }, 'rules[0].hosts'],
    [{ hosts: ['a.com', '*'] }, 'rules[0].hosts[1]'],
    [{ hosts: ['a.com'], ports: [0] }, 'rules[0].ports[0]'],
    [{ hosts: ['a.com'], methods: ['get'] }, 'rules[0].methods[0]'],
    [{ hosts: ['a.com'], paths: ['/a', 'b'] }, 'rules[0].paths[1]'],
    [{ hosts: ['a.com'], paths: ['/a/../b'] }, 'rules[0].paths[0]'],
    [{ hosts: ['a.com'], paths: ['/a/**/b'] }, 'rules[0].paths[0]'],
    [{ hosts: ['a.com'], paths: ['/a*b'] }, 'rules[0].paths[0]'],
    [{ hosts: ['a.com'], paths: [] }, 'rules[0].paths'],
  ])('that is malformed is refused with the field: %j', (given, field) => {
    expect(compilePolicy(policy([rule(given)]))).toMatchObject({ field });
  });
});

describe('a host pattern', () => {
  it('is compared without case and trailing dot, and never matches the apex or a longer word', () => {
    const upper = fc.string({ unit: fc.constantFrom('a', 'B', '3', '-', '.'), maxLength: 12 });
    fc.assert(
      fc.property(upper, (prefix) => {
        const below = parsePattern('*.Example.COM.', 'f');
        if (isProblem(below)) throw new Error(below.problem);
        expect(matchesHost(below, 'example.com')).toBe(false);
        const name = canonicalName(`${prefix}example.com.`);
        if (name === null) return;
        const labels = name.split('.');
        expect(matchesHost(below, name)).toBe(
          labels.length > 2 && labels.slice(-2).join('.') === 'example.com',
        );
      }),
    );
  });

  it.each([
    ['Bücher.example', 'xn--bcher-kva.example'],
    ['EXAMPLE.com.', 'example.com'],
    ['_dmarc.example.com', '_dmarc.example.com'],
    ['registry', 'registry'],
  ])('%s is kept as %s', (text, host) => {
    expect(parsePattern(text, 'f')).toEqual({ kind: 'name', host });
  });

  it.each([
    ...['*', '*.com', '*.', '', 'a.*.com', '*a.com', 'https://a.com', 'a.com/x', 'a.com:443', '[::1]', '::1'],
    ...[
      '127.1',
      '0x7f.1',
      '0x7f000001',
      '2130706433',
      '1.2.3.4.5',
      'a..com',
      '.com',
      '-a.com',
      'a b.com',
      'a%2e.com',
    ],
    ...[
      `${'a'.repeat(64)}.com`,
      `${'a.'.repeat(130)}com`,
      'exa\u0000mple.com',
      '１２７.0.0.1',
      'a\u3002\u3002com',
      '*.*.com',
    ],
  ])('%s is refused with the name of its field', (text) => {
    expect(parsePattern(text, 'hosts[7]')).toMatchObject({ field: 'hosts[7]' });
  });

  it('of a preset is well-formed, every one', () => {
    for (const host of [...packageManagerHosts(), ...Object.values(gitHosts).flat()]) {
      expect(parsePattern(host, 'f')).toEqual({ kind: 'name', host });
    }
  });
});

describe('a rule about paths', () => {
  const guarded = compiled(
    policy([
      rule({ id: 'all', hosts: ['api.example'] }),
      rule({ id: 'admin', effect: 'deny', hosts: ['api.example'], paths: ['/admin/**', '/admin'] }),
    ]),
  );
  const only = compiled(
    policy([rule({ id: 'repo', hosts: ['api.example'], paths: ['/repos/us/**', '/v*'] })]),
  );
  const effect = (all: Rules, target: string, method = 'GET') =>
    decide(all, { host: 'api.example', port: 443, request: { method, target } }).effect;

  it.each([
    ...[
      '/x/../admin/keys',
      '/x/%2e%2e/admin/keys',
      '/x/.%2E/admin',
      '/./admin/keys',
      '//admin/keys',
      '/x//../admin',
    ],
    ...[
      '/admin%2fkeys',
      '/%2fadmin',
      '/x\\..\\admin',
      '/x%5cadmin',
      '/%61dmin/keys',
      '/admin;x/keys',
      '/..;/admin',
    ],
    ...[
      '/%2561dmin/keys',
      '/admin%00',
      '/admin#x',
      '/adm%',
      '/%ff',
      '/a/..',
      '/admin/keys?x=/ok',
      'admin',
      '*',
      '',
    ],
    ...['/admin%3bx/keys', '/\u0430dmin', '/admin\tx', 'http://api.example/admin'],
  ])('is not got around by %j', (target) => {
    expect(effect(guarded, target)).toBe('deny');
    expect(effect(only, target)).toBe('deny');
  });

  it('lets through what it means', () => {
    expect(effect(guarded, '/administrators')).toBe('allow');
    expect(effect(guarded, '/a/b?next=//evil/../x')).toBe('allow');
    expect(effect(guarded, '*', 'OPTIONS')).toBe('allow');
    expect(effect(only, '/repos/us/scriptorium/pulls')).toBe('allow');
    expect(effect(only, '/repos/us/')).toBe('allow');
    expect(effect(only, '/repos/us')).toBe('deny');
    expect(effect(only, '/repos/use/x')).toBe('deny');
    expect(effect(only, '/v2')).toBe('allow');
    expect(effect(only, '/v2/x')).toBe('deny');
  });

  it('sees no path in two ways that a URL reader sees in one', () => {
    const parts = fc.constantFrom(
      '/',
      '..',
      '.',
      '%2e',
      '%2f',
      'admin',
      'x',
      '\\',
      ';',
      '%5c',
      '?',
      '%25',
      'é',
    );
    fc.assert(
      fc.property(fc.array(parts, { maxLength: 8 }), (pieces) => {
        const target = `/${pieces.join('')}`;
        const segments = readPath(target);
        if (segments === null) return;
        const url = new URL(target, 'http://h');
        expect(url.host).toBe('h');
        expect(url.pathname.slice(1).split('/').map(decodeURIComponent)).toEqual(segments);
      }),
      { numRuns: 2_000 },
    );
  });
});
