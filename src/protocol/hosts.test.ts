import { expect, test } from 'vitest';
import { hostPattern, hostProblem } from './hosts.ts';

test.each([
  'example.com',
  '*.example.com',
  'a-b.c_d.example',
  '10.1.2.3',
  'localhost',
  'EXAMPLE.com.',
  'xn--bcher-kva.example',
])('%s is a host pattern', (pattern) => expect(hostProblem(pattern)).toBeNull());

test.each([
  ['https://example.com', 'scheme'],
  ['example.com/path', 'path'],
  ['example.com:443', 'port'],
  ['::1', 'IPv6'],
  ['*', 'first label'],
  ['*.com', 'top-level'],
  ['a.*.com', 'first label'],
  ['*.*.example.com', 'first label'],
  ['256.1.1.1', 'IPv4'],
  ['1.2.3', 'IPv4'],
  ['*.1.2.3.4', 'wildcard'],
  ['-a.example', 'letters'],
  ['a..example', 'letters'],
  ['bücher.example', 'xn--'],
  ['', 'letters'],
  [' example.com', 'letters'],
  ['example.com\n', 'letters'],
])('%j is refused with a word about %s', (pattern, word) => {
  expect(hostProblem(pattern)).toContain(word);
  expect(hostPattern.safeParse(pattern).success).toBe(false);
});
