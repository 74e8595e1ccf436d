import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ControlSequenceFilter, headAndTail, withoutControlSequences } from './terminal-text.ts';

it.each([
  ['colours', '\x1b[1;31mred\x1b[0m', 'red'],
  ['a hyperlink ended by ST', '\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\', 'text'],
  ['a title ended by BEL', '\x1b]0;title\x07text', 'text'],
  ['a device control string', '\x1bPq#0\x1b\\text', 'text'],
  ['a charset switch', '\x1b(Btext', 'text'],
  ['two-character escapes', '\x1b7\x1bM\x1b=text', 'text'],
  ['C1 forms', '\x9b31mred \x9d0;title\x9ctext', 'red text'],
  ['bells, backspaces and NUL', 'a\x07\b\0b', 'ab'],
  ['a progress bar, as lines', '10%\r20%\r\n', '10%\n20%\r\n'],
  ['an escape inside an escape', '\x1b\x1b[31mred', 'red'],
  ['a sequence that ends in the middle', 'text\x1b[31', 'text'],
  ['a non-ASCII character where a sequence should go on', '\x1b[3é', 'é'],
])('takes out %s', (_, text, expected) => {
  expect(withoutControlSequences(text)).toBe(expected);
});

it('an unfinished title swallows its line and not the rest of the output', () => {
  expect(withoutControlSequences('\x1b]0;never ended\nthe result')).toBe('\nthe result');
});

const terminalText = fc
  .array(
    fc.constantFrom(
      '\x1b',
      '[',
      ']',
      '0',
      ';',
      'm',
      '\x07',
      '\\',
      '\r',
      '\n',
      'é',
      '😀',
      '\x9b',
      'P',
      '(',
      ' ',
    ),
  )
  .map((parts) => parts.join(''));

it('gives the same text however the output was cut into chunks, and no escape in it', () => {
  fc.assert(
    fc.property(terminalText, fc.array(fc.nat(40)), (text, cuts) => {
      const filter = new ControlSequenceFilter();
      let kept = '';
      let from = 0;
      for (const size of cuts) {
        kept += filter.push(text.slice(from, from + size));
        from += size;
      }
      kept += filter.push(text.slice(from)) + filter.end();
      expect(kept).toBe(withoutControlSequences(text));
      expect(kept).not.toMatch(/[^\P{Cc}\t\n\r]/u);
    }),
  );
});

it('text that fits is not cut', () => {
  expect(headAndTail('x'.repeat(100), 100)).toBeNull();
});

it('a long text is cut at line breaks, and the missing bytes are counted', () => {
  const lines = Array.from({ length: 100 }, (_, index) => `line ${index}\n`).join('');
  const cut = headAndTail(lines, 300);
  expect(cut?.head.endsWith('\n')).toBe(true);
  expect(cut?.tail.startsWith('line ')).toBe(true);
  expect((cut?.head ?? '') + (cut?.tail ?? '')).toHaveLength(lines.length - (cut?.missingBytes ?? 0));
});

it('never cuts inside a surrogate pair and never shows more than allowed', () => {
  const text = fc
    .array(fc.constantFrom('😀', 'a', '\n', 'é'), { minLength: 30 })
    .map((parts) => parts.join(''));
  fc.assert(
    fc.property(text, fc.integer({ min: 3, max: 30 }), (whole, limit) => {
      const cut = headAndTail(whole, limit);
      if (!cut) return;
      expect(cut.head.isWellFormed()).toBe(true);
      expect(cut.tail.isWellFormed()).toBe(true);
      expect(cut.head.length + cut.tail.length).toBeLessThanOrEqual(limit);
      expect(whole.startsWith(cut.head) && whole.endsWith(cut.tail)).toBe(true);
      expect(Buffer.byteLength(cut.head) + cut.missingBytes + Buffer.byteLength(cut.tail)).toBe(
        Buffer.byteLength(whole),
      );
    }),
  );
});
