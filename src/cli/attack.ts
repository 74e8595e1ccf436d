/**
 * `scriptorium attack`: hostile scripts through a whole server. The program itself lies beside this one's folder
 * (`attack/`) and is no part of the product's own code; here it is only started, with its output and its exit code.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExitCode } from './ending.ts';
import { exitCodes } from './ending.ts';

export type AttackOptions = {
  isolation?: string;
  only?: string;
  asUser?: boolean;
  list?: boolean;
  json?: boolean;
  keep?: boolean;
};

export async function attack(options: AttackOptions): Promise<ExitCode> {
  const here = fileURLToPath(import.meta.url);
  const program = path.resolve(here, '..', '..', '..', 'attack', `main${path.extname(here)}`);
  const args = Object.entries(options).flatMap(([name, value]) =>
    value === true
      ? [`--${dashed(name)}`]
      : value === undefined || value === false
        ? []
        : [`--${dashed(name)}`, String(value)],
  );
  const flags = ['--disable-warning=ExperimentalWarning'];
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

function dashed(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
