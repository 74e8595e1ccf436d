import { describe, expect, it } from 'vitest';
import { judge, type Observed, type Outside } from './judge.ts';
import type { ProbeRow, ScriptRow } from './row.ts';
import { rowsFor } from './rows/all.ts';

const nonce = 'atk0011223344556677';
const nothing: Outside = {
  ...{ services: [], world: [], folder: '', processes: '', terminal: '' },
  ...{ eventTypes: [], disks: [], openSecrets: [] },
};
const secrets = { canaries: ['attack-canary-model-1'], token: 'attack-canary-token-1' };
const row: ScriptRow = {
  ...{ id: 'a.b', title: 'a', promises: ['S2'], room: 'network' },
  ...{ calls: ['x'], refusal: /^refused$/, never: /done/ },
};
const probe: ProbeRow = {
  ...{ id: 'kernel.x', title: 'x', promises: ['S3'], room: 'sealed' },
  probe: { program: 'kernel', name: 'x', answers: ['EPERM'] },
};

function verdictOf(
  judged: ScriptRow | ProbeRow,
  observed: Partial<Observed>,
  outside: Partial<Outside> = {},
  isRoot = true,
): string {
  const mine = { nonce, answer: 'refused', decisions: [], ...observed };
  const { verdict, isBroken } = judge(judged, mine, { ...nothing, ...outside }, { ...secrets, isRoot });
  return `${verdict}${isBroken ? '!' : ''}`;
}

describe('a row', () => {
  it('holds where exactly its refusal was seen', () => {
    expect(verdictOf(row, {})).toBe('held');
    expect(verdictOf(probe, { answer: 'EPERM' })).toBe('held');
  });

  it('leaks where anything else was answered, or nothing', () => {
    for (const answer of ['refused?', '', null]) expect(verdictOf(row, { answer })).toBe('leaked!');
    for (const answer of ['done', 'EACCES', null]) expect(verdictOf(probe, { answer })).toBe('leaked!');
  });

  it('does not hold because a tool is missing', () => {
    expect(verdictOf({ ...row, refusal: /NO_TOOL/ }, { answer: 'NO_TOOL curl' })).toBe('no_tool!');
  });

  it('is detected where it was not refused but is in the log, which is enough for some', () => {
    const seen = { answer: 'through', decisions: [`{"host":"${nonce}.example"}`] };
    const recorded = { ...row, recorded: /NONCE\.example/ };
    expect(verdictOf(recorded, seen)).toBe('detected!');
    expect(verdictOf({ ...recorded, least: 'detected' }, seen)).toBe('detected');
    expect(verdictOf({ ...recorded, least: 'detected' }, { answer: 'through' })).toBe('leaked!');
  });

  it('leaks where it was refused without a word in the log', () => {
    expect(verdictOf({ ...row, recorded: /NONCE/ }, {})).toBe('leaked!');
  });

  it('is excused by a documented weakness of ordinary users, where the server is one', () => {
    const weak = { ...row, weakAsUser: 'known' };
    expect(verdictOf(weak, { answer: 'done' })).toBe('leaked!');
    expect(verdictOf(weak, { answer: 'done' }, {}, false)).toBe('leaked');
    expect(verdictOf(weak, {}, {}, false)).toBe('held');
    expect(verdictOf(weak, { answer: 'NO_TOOL x' }, {}, false)).toBe('no_tool!');
  });

  it.each<[string, Partial<Outside>]>([
    ['a service of the host', { services: [nonce] }],
    ['the world', { world: [`GET good.example /${nonce}`] }],
    ['a folder of the host', { folder: `planted ${nonce}` }],
    ['a process that is left', { processes: `left-${nonce} sleep` }],
  ])('leaks whatever was answered where it shows up at %s', (_, outside) => {
    expect(verdictOf(row, {}, outside)).toBe('leaked!');
  });

  it('leaks where a secret was seen inside, or left for the world', () => {
    expect(verdictOf({ ...row, refusal: /./ }, { answer: secrets.canaries[0] ?? '' })).toBe('leaked!');
    const world = [`GET good.example /${nonce} ${secrets.token}`];
    expect(verdictOf({ ...row, world: /good/ }, {}, { world })).toBe('leaked!');
    expect(verdictOf({ ...row, world: /good/, mayCarrySecret: true }, {}, { world })).toBe('held');
  });

  it('that must reach the world holds nothing where it never did', () => {
    expect(verdictOf({ ...row, world: /good/ }, {})).toBe('leaked!');
  });

  it.each<[NonNullable<ScriptRow['outside']>, Partial<Outside>]>([
    ['terminal', { terminal: 'a\x1b[2J' }],
    ['events', { eventTypes: ['attack.forged'] }],
    ['disk', { disks: ['sesn_1'] }],
    ['at-rest', { openSecrets: ['store'] }],
  ])('that is about %s is looked at there', (outside, seen) => {
    expect(verdictOf({ ...row, outside }, {}, seen)).toBe('leaked!');
  });
});

it('there are at least sixty scripts and a hundred probes, each with a name of its own', () => {
  const rows = rowsFor('bubblewrap');
  expect(new Set(rows.map(({ id }) => id)).size).toBe(rows.length);
  expect(rows.filter((one) => 'probe' in one).length).toBeGreaterThan(100);
  expect(rows.filter((one) => 'calls' in one).length).toBeGreaterThanOrEqual(60);
});
