import fc from 'fast-check';
import { expect, it } from 'vitest';
import { compileGlob } from './glob-pattern.ts';

function matches(pattern: string, path: string): boolean {
  const compiled = compileGlob(pattern);
  if (!compiled.ok) throw new Error(compiled.message);
  return compiled.glob.matches(path);
}

it.each([
  ['*.ts', 'a.ts', true],
  ['*.ts', 'src/a.ts', false],
  ['*.ts', '.ts', true],
  ['**/*.ts', 'a.ts', true],
  ['**/*.ts', 'src/deep/a.ts', true],
  ['src/**', 'src/deep/a.ts', true],
  ['src/**', 'src', false],
  ['src/**/a.ts', 'src/a.ts', true],
  ['src/**/a.ts', 'src/x/y/a.ts', true],
  ['src/**/a.ts', 'srcx/a.ts', false],
  ['**', 'a/b/c', true],
  ['**/test/**', 'a/test/b', true],
  ['**/test/**', 'test/b', true],
  ['a**b', 'axxb', true],
  ['a**b', 'a/b', false],
  ['?.ts', 'a.ts', true],
  ['?.ts', '/.ts', false],
  ['?', '😀', true],
  ['*.{ts,tsx}', 'a.tsx', true],
  ['*.{ts,tsx}', 'a.js', false],
  ['{a,b{c,d}}/x', 'bd/x', true],
  ['{a,b{c,d}}/x', 'b/x', false],
  ['{,x}y', 'y', true],
  ['{src,test}/**/*.ts', 'test/a/b.ts', true],
  ['{**/a,b}', 'x/y/a', true],
  ['[abc].ts', 'b.ts', true],
  ['[a-c].ts', 'd.ts', false],
  ['[!a-c].ts', 'd.ts', true],
  ['[^a].ts', 'a.ts', false],
  ['[]].ts', '].ts', true],
  ['[a-]x', '-x', true],
  ['[!a]', '/', false],
  ['a\\*', 'a*', true],
  ['a\\*', 'ab', false],
  ['a}b,c', 'a}b,c', true],
  ['.github/*.yml', '.github/ci.yml', true],
  ['*+(x).ts', 'a+(x).ts', true],
])('%s with %s is %s', (pattern, path, expected) => {
  expect(matches(pattern, path)).toBe(expected);
});

it.each(['{a', '[a', '[', '{a,{b}', 'x'.repeat(501)])('%s is refused with a reason', (pattern) => {
  expect(compileGlob(pattern)).toMatchObject({ ok: false, message: expect.stringMatching(/^The pattern /) });
});

/** What the same pattern means as a regular expression: slow for hostile ones, but plainly right for short ones. */
function asRegExp(pattern: string): RegExp {
  const source = pattern
    .replaceAll(/(?<=^|\/)\*\*\//g, '\u0001')
    .replaceAll(/(?<=^|\/|\u0001)\*\*$/g, '\u0002')
    .replaceAll(/\*+/g, '[^/]*')
    .replaceAll('?', '[^/]')
    .replaceAll('\u0001', '(?:.*/)?')
    .replaceAll('\u0002', '.*')
    .replaceAll('{', '(?:')
    .replaceAll('}', ')')
    .replaceAll(',', '|');
  return new RegExp(`^(?:${source})$`, 's');
}

it('agrees with a regular expression on all patterns of stars, question marks and slashes', () => {
  const pattern = fc.array(fc.constantFrom('a', 'b', '/', '*', '?', '**/', '/**', '{a,b*}'), {
    maxLength: 6,
  });
  const path = fc.array(fc.constantFrom('a', 'b', '/'), { maxLength: 8 });
  fc.assert(
    fc.property(pattern, path, (patternParts, pathParts) => {
      const text = patternParts.join('');
      // Three stars and stars at braces are ours to define.
      fc.pre(!/\*\*\*|\}\*|\*\{/.test(text));
      expect(matches(text, pathParts.join(''))).toBe(asRegExp(text).test(pathParts.join('')));
    }),
    { numRuns: 3_000 },
  );
});

it('patterns that make others search for ever are answered', () => {
  const path = `${`${'a'.repeat(200)}/`.repeat(20)}b`;
  for (const pattern of [
    '*a'.repeat(250),
    '**/'.repeat(166),
    '{a,a}'.repeat(100),
    '{*,a*}'.repeat(83),
    '*?'.repeat(250),
  ]) {
    expect(matches(`${pattern.slice(0, 499)}`.replace(/\{[^}]*$/, ''), path)).toBe(false);
  }
});

it('a pattern and paths that are made for each other come to an end', () => {
  const compiled = compileGlob(`*a${'?'.repeat(60)}`);
  if (!compiled.ok) throw new Error(compiled.message);
  let bits = 1;
  const letter = (): string => {
    bits = (bits * 48_271) % 2_147_483_647;
    return bits & 256 ? 'a' : 'b';
  };
  for (let index = 0; index < 50_000 && !compiled.glob.isExhausted; index++) {
    compiled.glob.matches(Array.from({ length: 200 }, letter).join(''));
  }
  expect(compiled.glob.isExhausted).toBe(true);
  expect(compiled.glob.matches('b'.repeat(300))).toBe(false);
});

it('any text is a pattern or is refused, and neither throws', () => {
  const hostile = fc.array(fc.constantFrom('*', '{', '}', ',', '[', ']', '!', '-', '\\', '/', 'a'), {
    maxLength: 40,
  });
  fc.assert(
    fc.property(hostile, (parts) => {
      const compiled = compileGlob(parts.join(''));
      if (compiled.ok) expect(typeof compiled.glob.matches('a/a')).toBe('boolean');
    }),
  );
});
