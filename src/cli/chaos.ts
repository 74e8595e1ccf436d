/** `scriptorium chaos`: attacks real processes by a seeded plan. */
import { runCompanion } from './companion.ts';
import type { ExitCode } from './ending.ts';

export type ChaosOptions = {
  seed?: string;
  seconds?: string;
  steps?: string;
  sessions?: string;
  pace?: string;
  store?: string;
  json?: boolean;
  keep?: boolean;
};

/** All that clients saw of a long run is kept to be judged: it needs room. */
export function chaos(options: ChaosOptions): Promise<ExitCode> {
  return runCompanion('chaos', options, ['--max-old-space-size=8192']);
}
