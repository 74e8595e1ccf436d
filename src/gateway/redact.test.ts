import { Readable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { putIn } from './broker.ts';
import type { CompiledCredential } from './credentials.ts';
import { compileCredentials } from './credentials.ts';
import { isProblem } from './pattern.ts';
import { masker, redactor } from './redact.ts';

function credential(secret: string, placeholder: string): CompiledCredential {
  const compiled = compileCredentials([{ id: 'c', secret, placeholder, hosts: ['a.example'] }]);
  if (isProblem(compiled)) throw new Error(`${compiled.field} ${compiled.problem}`);
  const [one] = compiled;
  if (!one) throw new Error('none');
  return one;
}

async function through(parts: readonly Buffer[], secrets: CompiledCredential[]): Promise<string> {
  const stream = Readable.from(parts).pipe(redactor(secrets).stream());
  const out: Buffer[] = [];
  for await (const chunk of stream) out.push(chunk);
  return Buffer.concat(out).toString('latin1');
}

const one = credential('abab-Secret/+"1234', 'PLACEHOLDER-a1b2c3');
const two = credential('abab-Secret/+"1234-and-more', 'PLACEHOLDER-of-another');

describe('an answer', () => {
  it('has no value in it, in any form, however it is cut into chunks; everything else is as it was', async () => {
    const { secret } = one;
    const text = fc.constantFrom(
      ...[
        'x',
        'abab-',
        'ababab',
        secret.slice(0, 9),
        'YWJhYi',
        secret,
        `${secret}-and-more`,
        encodeURIComponent(secret),
      ],
      ...[
        JSON.stringify(secret),
        Buffer.from(secret).toString('hex'),
        Buffer.from(`u:${secret}`).toString('base64'),
      ],
      ...[
        Buffer.from(`us:${secret}!`).toString('base64'),
        Buffer.from(`use:${secret}`).toString('base64url'),
      ],
    );
    await fc.assert(
      fc.asyncProperty(fc.array(text, { maxLength: 8 }), fc.array(fc.nat(40)), async (pieces, cuts) => {
        const whole = Buffer.from(pieces.join('|'));
        const parts: Buffer[] = [];
        let at = 0;
        for (const cut of cuts) {
          parts.push(whole.subarray(at, at + cut));
          at += cut;
        }
        parts.push(whole.subarray(at));
        const out = await through(
          parts.filter(({ length }) => length > 0),
          [one, two],
        );
        expect(out).not.toContain(secret);
        expect(out).not.toContain(secret.slice(2));
        expect(out.toLowerCase()).not.toContain(encodeURIComponent(secret).toLowerCase());
        expect(out).not.toContain(Buffer.from(secret).toString('hex'));
        for (const user of ['u:', 'us:', 'use:']) {
          expect(out).not.toContain(Buffer.from(`${user}${secret}`).toString('base64').slice(4, 24));
        }
        expect(out).toBe(redactor([one, two]).text(whole.toString('latin1')));
        const harmless = pieces.every((piece) => piece.length < 10);
        if (harmless) expect(out).toBe(whole.toString());
      }),
      { numRuns: 300 },
    );
  });

  it('is not held back longer than it could be the beginning of a value', async () => {
    const stream = redactor([one]).stream();
    stream.write('data: hello\n\n');
    expect(String(stream.read())).toBe('data: hello\n\n');
    stream.write('data: abab-Sec');
    expect(String(stream.read())).toBe('data: ');
    stream.write('ond');
    expect(String(stream.read())).toBe('abab-Second');
  });

  it('whose length was announced keeps it', () => {
    const text = `frame:${one.secret}:end`;
    expect(masker([one]).text(text)).toBe(`frame:${'*'.repeat(one.secret.length)}:end`);
    expect(masker([one]).keepsLength).toBe(true);
    expect(redactor([credential('abcdefgh', 'ABCDEFGH')]).keepsLength).toBe(true);
    expect(redactor([credential('abcdefgh', 'ABCDEFGHI')]).keepsLength).toBe(false);
  });
});

describe('a header', () => {
  it('is swapped for each credential it names, in a Basic pair of either alphabet too, and is else as it was', () => {
    const list = putIn(
      [
        ['X', `${one.placeholder};${two.placeholder}`],
        ['Authorization', `basic ${Buffer.from(`u:${one.placeholder}`).toString('base64url')}`],
        ['Y', 'Basic is a word'],
        ['Authorization', 'Basic !!!'],
      ],
      [one, two],
    );
    expect(list.headers).toEqual([
      ['X', `${one.secret};${two.secret}`],
      ['Authorization', `basic ${Buffer.from(`u:${one.secret}`).toString('base64')}`],
      ['Y', 'Basic is a word'],
      ['Authorization', 'Basic !!!'],
    ]);
  });
});

describe('a credential', () => {
  const given = { id: 'c', secret: 'secret-value', placeholder: 'placeholder', hosts: ['a.example'] };
  it.each([
    [{ ...given, secret: 'brief' }, 'credentials[0].secret'],
    [{ ...given, secret: 'two\r\nlines: here' }, 'credentials[0].secret'],
    [{ ...given, placeholder: 'x' }, 'credentials[0].placeholder'],
    [{ ...given, placeholder: 'has-secret-value-in' }, 'credentials[0].placeholder'],
    [{ ...given, hosts: ['*'] }, 'credentials[0].hosts[0]'],
  ])('that cannot be kept apart is refused without its value: %#', (bad, field) => {
    const problem = compileCredentials([bad]);
    expect(problem).toMatchObject({ field });
    expect(JSON.stringify(problem)).not.toContain(bad.secret);
  });
});
