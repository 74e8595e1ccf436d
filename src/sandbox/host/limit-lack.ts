/** Whether a host took notice of the limits that it was asked for. */
import type { Refusal, SandboxInfo, SandboxSpec } from '../executor.ts';
import type { Limits } from '../limits.ts';

const newer: (keyof Limits)[] = ['cpuCores', 'outputBytes', 'wallTimeMs', 'idleTimeMs', 'lifetimeMs'];

/** A host of an earlier release does not know these, keeps none of them, and does not say so (S4). */
export function limitLack(made: SandboxInfo, { limits }: SandboxSpec): Refusal | null {
  const asked = newer.filter((name) => limits[name] !== undefined);
  if (made.limits !== undefined || asked.length === 0) return null;
  return {
    refused: 'isolation_unavailable',
    message: `the host does not enforce ${asked.join(', ')}: it is of an earlier release; end it, and a new one is started`,
  };
}
