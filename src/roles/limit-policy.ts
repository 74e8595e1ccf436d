/**
 * What a server gives a session that asks for nothing, and at most to one that asks: from a file of the operator's,
 * `{"defaults": {…}, "maxima": {…}}` with the names of an environment's limits, over defaults of ours.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { z } from 'zod';
import { type LimitName, type LimitValues, limitNames, limitProblem } from '../protocol/limits.ts';
import type { Limits } from '../sandbox/executor.ts';

export type LimitPolicy = { limits: Limits; maxima: LimitValues };

/** What is wrong with the file; its message names the member. */
export class BadLimits extends Error {
  override name = 'BadLimits';
}

const defaultLimits: Limits = {
  memoryBytes: 4 * 1024 ** 3,
  processes: 512,
  openFiles: 4096,
  tmpBytes: 512 * 1024 ** 2,
  fileBytes: 4 * 1024 ** 3,
};

const members: Record<LimitName, keyof Limits> = {
  cpu_cores: 'cpuCores',
  memory_bytes: 'memoryBytes',
  processes: 'processes',
  open_files: 'openFiles',
  disk_bytes: 'diskBytes',
  output_bytes: 'outputBytes',
  wall_time_ms: 'wallTimeMs',
  idle_time_ms: 'idleTimeMs',
  lifetime_ms: 'lifetimeMs',
};

const values = z.strictObject(
  Object.fromEntries(limitNames.map((name) => [name, z.number().positive().optional()])),
);
const fileSchema = z.strictObject({ defaults: values.optional(), maxima: values.optional() });

/** `isOneMachine`: sessions run on this very machine, so nobody gets more than it has. Throws `BadLimits`. */
export function limitPolicy(
  options: { limits?: Partial<Limits>; limitsFile?: string },
  isOneMachine: boolean,
): LimitPolicy {
  const file = options.limitsFile === undefined ? {} : read(options.limitsFile);
  const has = isOneMachine ? machine() : {};
  const maxima = least(has, file.maxima ?? {});
  const excess = limitProblem(file.defaults, maxima);
  if (excess !== null) throw new BadLimits(`${options.limitsFile}: defaults: ${excess}`);
  const wanted: Record<string, number | undefined> = { ...defaultLimits };
  for (const name of limitNames) {
    const given = file.defaults?.[name] ?? wanted[members[name]];
    // All cores that there are is no limit worth a quota, and where there is no quota no lack worth a warning.
    wanted[members[name]] = within(given, name === 'cpu_cores' ? file.maxima?.[name] : maxima[name]);
  }
  const set = Object.entries({ ...wanted, ...options.limits }).filter(([, value]) => value !== undefined);
  return { limits: Object.fromEntries(set) as Limits, maxima };
}

/** Of a build: what bounds calls and lives of agents would cut off a package manager. */
export function buildLimits(limits: Limits): Limits {
  const { outputBytes: _o, wallTimeMs: _w, idleTimeMs: _i, lifetimeMs: _l, ...resources } = limits;
  return resources;
}

/** A maximum bounds also whoever asks for nothing. */
function within(value: number | undefined, most: number | undefined): number | undefined {
  return value === undefined ? most : Math.min(value, most ?? value);
}

function read(file: string): { defaults?: LimitValues; maxima?: LimitValues } {
  try {
    const { defaults, maxima } = fileSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
    return { ...(defaults ? { defaults } : {}), ...(maxima ? { maxima } : {}) };
  } catch (error) {
    const why = error instanceof z.ZodError ? z.prettifyError(error) : (error as Error).message;
    throw new BadLimits(`${file}: ${why}`);
  }
}

function machine(): LimitValues {
  const constrained = process.constrainedMemory();
  const memoryBytes = constrained > 0 ? Math.min(totalmem(), constrained) : totalmem();
  return { cpu_cores: availableParallelism(), memory_bytes: memoryBytes };
}

function least(one: LimitValues, other: LimitValues): LimitValues {
  const both = { ...other };
  for (const name of limitNames) {
    const value = within(one[name], other[name]);
    if (value !== undefined) both[name] = value;
  }
  return both;
}
