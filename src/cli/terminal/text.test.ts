import { describe, expect, it } from 'vitest';
import { ago, duration, money, tokens } from './figures.ts';
import { summaryOf } from './narrate.ts';
import { oneLine, safeText } from './text.ts';

describe('safe text', () => {
  it.each([
    ['colours', '\u001b[31mred\u001b[0m', 'red'],
    ['8-bit sequences', '\u009b31mred\u009b0m', 'red'],
    ['cursor moves', 'a\u001b[2J\u001b[1;1Hb', 'ab'],
    ['window titles', '\u001b]0;owned\u0007text', 'text'],
    ['clipboard writes', '\u001b]52;c;ZXZpbA==\u001b\\text', 'text'],
    ['hyperlinks', '\u001b]8;;http://evil\u001b\\click\u001b]8;;\u001b\\', 'click'],
    ['device control strings', '\u001bPq#0;2\u001b\\x', 'x'],
    ['a sequence that never ends', 'a\u001b]0;never', 'a'],
    ['a sequence inside a sequence', '\u001b\u001b[31m[31mx', '31mx'],
    ['character sets', '\u001b(0lqk\u001b(B', 'lqk'],
    ['a lone escape', 'a\u001b', 'a'],
    ['backspaces that hide', 'rm -rf /\b\b\b\bls', 'rm -rf /ls'],
    ['carriage returns that overwrite', 'good\rbad', 'good\nbad'],
    ['text turned around', 'a\u202eb\u2066c', 'abc'],
    ['half characters', 'a\ud800b', 'a\ufffdb'],
  ])('has no %s', (_what, text, safe) => expect(safeText(text)).toBe(safe));

  it('keeps line feeds, tabs and every language', () =>
    expect(safeText('a\tb\r\nü 漢字 🙂 עברית')).toBe('a\tb\nü 漢字 🙂 עברית'));

  it('cuts by columns, not by code units', () => {
    expect(oneLine('a\n  b\tc', 20)).toBe('a b c');
    expect(oneLine('漢字漢字漢字', 8)).toBe('漢字漢…');
    expect(oneLine('abcdefgh', 5)).toBe('abcd…');
  });
});

it('reads figures as people do', () => {
  expect([duration(7), duration(1_500), duration(61_000), duration(3_700_000)]).toEqual([
    '7 ms',
    '1.5 s',
    '1 min 1 s',
    '1 h 1 min',
  ]);
  expect([money(7_007), money(12_345_678), money(null)]).toEqual(['$0.0070', '$12.35', 'price unknown']);
  expect([tokens(9_999), tokens(12_345)]).toEqual(['9999', '12.3k']);
  expect(ago('2026-11-20T10:00:00Z', Date.parse('2026-11-20T12:00:00Z'))).toBe('2 h ago');
});

it('says what a call is about', () => {
  expect(summaryOf('bash', { command: 'npm test' })).toBe('npm test');
  expect(summaryOf('read', { file_path: '/workspace/src/a.js' })).toBe('src/a.js');
  expect(summaryOf('grep', { pattern: 'x', path: '/workspace/src' })).toBe('x in src');
  expect(summaryOf('apply_patch', { input: '*** Begin Patch\n*** Update File: a\n*** Add File: b\n' })).toBe(
    'a, b',
  );
  expect(summaryOf('my_tool', { a: 1 })).toBe('{"a":1}');
  expect(summaryOf('my_tool', null)).toBe('{}');
});
