/**
 * Puts secrets where their placeholders stand (S1): in the values of request headers, Basic pairs too, and nowhere
 * else. Whoever calls has made sure that the request goes over verified TLS to a host that the credential is bound to.
 */
import type { CompiledCredential } from './credentials.ts';
import type { HeaderList } from './exchange.ts';
import type { Injected } from './redact.ts';

export type Brokered = {
  headers: HeaderList;
  /** Ids of the credentials that went in. */
  used: string[];
  /** Whole values that hold a secret in a form of their own. */
  injected: Injected[];
};

const basic = /^(basic[ \t]+)([A-Za-z0-9+/_-]+={0,2})[ \t]*$/i;

export function putIn(headers: HeaderList, credentials: readonly CompiledCredential[]): Brokered {
  const used = new Set<string>();
  const injected: Injected[] = [];
  const swap = (text: string) => {
    let swapped = text;
    for (const { id, placeholder, secret } of credentials) {
      if (!swapped.includes(placeholder)) continue;
      used.add(id);
      swapped = swapped.replaceAll(placeholder, () => secret);
    }
    return swapped;
  };
  const list = headers.map(([name, value]): [string, string] => {
    const pair = basic.exec(value);
    if (!pair) return [name, swap(value)];
    const [, scheme = '', shown = ''] = pair;
    const text = Buffer.from(shown, 'base64').toString('utf8');
    const real = swap(text);
    if (real === text) return [name, swap(value)];
    const encoded = Buffer.from(real).toString('base64');
    injected.push({ real: encoded, shown });
    return [name, `${scheme}${encoded}`];
  });
  return { headers: list, used: [...used], injected };
}
