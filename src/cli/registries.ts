/** `--registry npm=https://…`: where builds of environments ask for packages. */
import { exitCodes, Refused } from './ending.ts';

const managers = ['npm', 'pip', 'go'] as const;

export function registriesOf(typed: string[] = []): Partial<Record<(typeof managers)[number], string>> {
  return Object.fromEntries(
    typed.map((one) => {
      const [name, ...rest] = one.split('=');
      const url = rest.join('=');
      const isKnown = managers.some((manager) => manager === name);
      if (isKnown && URL.canParse(url) && /^https?:/.test(url)) return [name, url];
      throw new Refused(`--registry ${one}: it is npm=, pip= or go= and a URL`, {
        exitCode: exitCodes.usage,
      });
    }),
  );
}
