/** `scriptorium attack`: hostile scripts through a whole server. */
import { runCompanion } from './companion.ts';
import type { ExitCode } from './ending.ts';

export type AttackOptions = {
  isolation?: string;
  only?: string;
  asUser?: boolean;
  list?: boolean;
  json?: boolean;
  keep?: boolean;
};

export function attack(options: AttackOptions): Promise<ExitCode> {
  return runCompanion('attack', options, []);
}
