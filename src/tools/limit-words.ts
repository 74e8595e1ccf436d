/** What is said of limits that were reached: one sentence, for the model, for people and in events. */
import type { LimitHit } from '../sandbox/limits.ts';

export function limitWords({ limit, value, amount }: LimitHit): string {
  switch (limit) {
    case 'memory_bytes':
      return `The sandbox reached its memory limit of ${bytes(value)}: ${counted(amount, 'process was', 'processes were')} killed.`;
    case 'processes':
      return `The sandbox reached its limit of ${value} processes: ${counted(amount, 'start', 'starts')} of a process or thread failed.`;
    case 'cpu_cores':
      return `The sandbox reached its limit of ${value} processor cores: its programs were held back for ${seconds(amount ?? 0)} in all.`;
    case 'output_bytes':
      return `The call reached the output limit of ${bytes(value)}: ${amount ?? 0} more bytes were not kept.`;
    case 'wall_time_ms':
      return `The call reached the time limit of ${seconds(value)} for one call, and was killed with everything it had started.`;
    case 'idle_time_ms':
      return `The sandbox was put to sleep after ${seconds(value)} without a call; what ran in its background has ended. Files are kept, but for /tmp.`;
    case 'lifetime_ms':
      return `The sandbox reached its lifetime of ${seconds(value)} and was ended with everything in it. Files are kept, but for /tmp; the next command has a new sandbox.`;
    default:
      return `The sandbox reached its limit ${limit} of ${value}.`;
  }
}

function counted(amount: number | null, one: string, many: string): string {
  return amount === 1 ? `1 ${one}` : `${amount ?? 'some'} ${many}`;
}

function bytes(value: number): string {
  for (const [unit, size] of [
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
  ] as const)
    if (value >= size) return `${Number((value / size).toFixed(1))} ${unit}`;
  return `${value} bytes`;
}

function seconds(valueMs: number): string {
  return `${Number((valueMs / 1000).toFixed(1))} s`;
}
