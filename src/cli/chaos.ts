/**
 * `scriptorium chaos`: attacks real processes by a seeded plan. The program itself lies beside this one's folder
 * (`chaos/`) and is no part of the product's own code; here it is only started, with its output and its exit code.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExitCode } from './ending.ts';
import { exitCodes } from './ending.ts';

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

export async function chaos(options: ChaosOptions): Promise<ExitCode> {
  const here = fileURLToPath(import.meta.url);
  const program = path.resolve(here, '..', '..', '..', 'chaos', `main${path.extname(here)}`);
  const args = Object.entries(options).flatMap(([name, value]) =>
    value === true
      ? [`--${name}`]
      : value === undefined || value === false
        ? []
        : [`--${name}`, String(value)],
  );
  // All that clients saw of a long run is kept to be judged.
  const flags = ['--disable-warning=ExperimentalWarning', '--max-old-space-size=8192'];
  const child = spawn(process.execPath, [...flags, program, ...args], {
    stdio: 'inherit',
  });
  const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, pass);
  try {
    const [code] = (await once(child, 'exit')) as [number | null];
    const known = Object.values(exitCodes).find((one) => one === code);
    return known ?? exitCodes.error;
  } finally {
    for (const signal of signals) process.off(signal, pass);
  }
}
