import fc from 'fast-check';
import { expect, it } from 'vitest';
import { applyHunks } from './match.ts';
import { parsePatch } from './parse.ts';

const line = fc.constantFrom('a', 'b', ' a', 'a ', '', '  ', '@@', '*** End of File', 'é', '-x', '+y');

/** A file, and for every line whether it is kept, removed, or has a line added behind it. */
const change = fc.array(fc.tuple(line, fc.constantFrom(' ', '-', '+'), line), {
  minLength: 1,
  maxLength: 20,
});

function asPatch(lines: [string, string, string][]): { before: string; after: string; patch: string } {
  const before = lines.map(([text]) => `${text}\n`).join('');
  const after = lines.map(([text, what, added]) =>
    what === '-' ? '' : what === '+' ? `${text}\n${added}\n` : `${text}\n`,
  );
  const hunk = lines.map(([text, what, added]) => {
    if (what === '-') return `-${text}`;
    return what === '+' ? ` ${text}\n+${added}` : ` ${text}`;
  });
  const patch = `*** Begin Patch\n*** Update File: f\n@@\n${hunk.join('\n')}\n*** End Patch`;
  return { before, after: after.join(''), patch };
}

function applied(before: string, patch: string): string {
  const parsed = parsePatch(patch);
  if (!parsed.ok) throw new Error(parsed.message);
  const [update] = parsed.changes;
  const result = update?.type === 'update' ? applyHunks(before, update.hunks, 'f') : undefined;
  if (!result?.ok) throw new Error(result?.message);
  return result.text;
}

it('a patch that was made from a change gives that change, whatever the lines look like', () => {
  fc.assert(
    fc.property(change, (lines) => {
      const { before, after, patch } = asPatch(lines);
      expect(applied(before, patch)).toBe(after);
    }),
    { numRuns: 1_000 },
  );
});

it('any text is a patch or is refused, and neither throws', () => {
  const piece = fc.constantFrom(
    '*** Begin Patch',
    '*** End Patch',
    '*** Update File: f',
    '*** Add File: f',
    '*** Move to: g',
    '@@',
    '@@ a',
    ' a',
    '+a',
    '-a',
    '',
    '*** End of File',
    'x',
  );
  fc.assert(
    fc.property(fc.array(piece), (pieces) => {
      const parsed = parsePatch(`*** Begin Patch\n${pieces.join('\n')}\n*** End Patch`);
      for (const found of parsed.ok ? parsed.changes : []) {
        if (found.type === 'update') expect(applyHunks('a\nb\na\n', found.hunks, 'f')).toHaveProperty('ok');
      }
    }),
  );
});

it('a file and a hunk that almost match everywhere are answered', () => {
  const file = 'a\n'.repeat(200_000);
  const hunk = `${' a\n'.repeat(20_000)}-b\n+c`;
  const parsed = parsePatch(`*** Begin Patch\n*** Update File: f\n@@\n${hunk}\n*** End Patch`);
  const [update] = parsed.ok ? parsed.changes : [];
  expect(update?.type === 'update' && applyHunks(`${file}b x\n`, update.hunks, 'f')).toMatchObject({
    ok: false,
  });
});

it('a patch with more hunks than its file can bear is refused', () => {
  const patch = `*** Begin Patch\n*** Update File: f\n${'@@\n-a\n+b\n'.repeat(3_000)}*** End Patch`;
  const parsed = parsePatch(patch);
  const [update] = parsed.ok ? parsed.changes : [];
  const result = update?.type === 'update' && applyHunks('x\n'.repeat(100_000), update.hunks, 'f');
  expect(result).toMatchObject({
    ok: false,
    message: 'f has too many lines for a patch with so many hunks.',
  });
});
