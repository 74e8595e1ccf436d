import fc from 'fast-check';
import { expect, it } from 'vitest';
import { scrub } from './scrub.ts';

const secretText = fc.string({
  unit: fc.integer({ min: 33, max: 126 }).map((code) => String.fromCharCode(code)),
  minLength: 9,
  maxLength: 60,
});

it('takes a secret out in every form that a peer echoes it in, wherever in a longer text it was encoded', () => {
  fc.assert(
    fc.property(
      secretText,
      fc.string({ maxLength: 5 }),
      fc.string({ maxLength: 5 }),
      (secret, before, after) => {
        const whole = before + secret + after;
        const echoes = [
          whole,
          JSON.stringify({ whole }),
          Buffer.from(whole).toString('base64'),
          Buffer.from(whole).toString('base64url'),
          Buffer.from(secret).toString('hex'),
          before + encodeURIComponent(secret),
        ];
        for (const echo of echoes) {
          const clean = scrub(echo, [secret]);
          expect(clean).toContain('[redacted]');
          expect(clean).not.toContain(secret);
        }
      },
    ),
  );
});
