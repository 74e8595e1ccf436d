/** Programs that lie beside `src/` and are no part of the product's own code: only started from here, with their output and exit code. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExitCode } from './ending.ts';
import { exitCodes } from './ending.ts';

type Options = Record<string, string | boolean | undefined>;

/** `folder` is beside `src/`; `options` become its own, `flags` are Node's. */
export async function runCompanion(folder: string, options: Options, flags: string[]): Promise<ExitCode> {
  const here = fileURLToPath(import.meta.url);
  const program = path.resolve(here, '..', '..', '..', folder, `main${path.extname(here)}`);
  const args = Object.entries(options).flatMap(([name, value]) => {
    if (value === undefined || value === false) return [];
    return value === true ? [`--${dashed(name)}`] : [`--${dashed(name)}`, value];
  });
  const command = ['--disable-warning=ExperimentalWarning', ...flags, program, ...args];
  const child = spawn(process.execPath, command, { stdio: 'inherit' });
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

function dashed(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
