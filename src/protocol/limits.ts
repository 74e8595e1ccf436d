/**
 * What an environment bounds its sessions by: params, stored form, ranges, and what a server allows at most. Ours, not
 * the protocol's. A limit that is not given is the server's default; a range is asked of the merged whole, so that every
 * refusal names the field, what was wanted and what can be had.
 */
import { z } from 'zod';

export const limitNames = [
  'cpu_cores',
  'memory_bytes',
  'processes',
  'open_files',
  'disk_bytes',
  'output_bytes',
  'wall_time_ms',
  'idle_time_ms',
  'lifetime_ms',
] as const;

export type LimitName = (typeof limitNames)[number];
export type LimitValues = { [name in LimitName]?: number | undefined };

const mebi = 1 << 20;
const dayMs = 24 * 60 * 60_000;

/** What makes sense at all, on any machine. Beyond a day or so timers and counters of the house end. */
export const limitRanges: Record<LimitName, { least: number; most: number }> = {
  cpu_cores: { least: 0.05, most: 1024 },
  memory_bytes: { least: 32 * mebi, most: 2 ** 50 },
  processes: { least: 8, most: 1 << 16 },
  open_files: { least: 64, most: 1 << 20 },
  disk_bytes: { least: 16 * mebi, most: 2 ** 50 },
  output_bytes: { least: 1024, most: 16 * mebi },
  wall_time_ms: { least: 1_000, most: 1_800_000 },
  idle_time_ms: { least: 1_000, most: dayMs },
  lifetime_ms: { least: 1_000, most: 20 * dayMs },
};

const count = z.int().positive();

/** A member that is null goes back to the server's default. */
export const limitsParams = z.strictObject({
  /** Processor time per time: 0.5 is half a core, 2 is two. */
  cpu_cores: z.number().positive().nullish(),
  memory_bytes: count.nullish(),
  processes: count.nullish(),
  /** Of one process. */
  open_files: count.nullish(),
  /** What workspace, outputs and home hold together. */
  disk_bytes: count.nullish(),
  /** Of one call; what is beyond is not kept. */
  output_bytes: count.nullish(),
  /** Of one call; it is killed then, with everything it started. */
  wall_time_ms: count.nullish(),
  /** A sandbox in which no call was made for so long is put to sleep, with what runs in its background. */
  idle_time_ms: count.nullish(),
  /** A sandbox that ran for so long is ended; its disk stays, and the next call starts another. */
  lifetime_ms: count.nullish(),
});

export const limitValues = z.looseObject(
  Object.fromEntries(limitNames.map((name) => [name, z.number().optional()])) as {
    [name in LimitName]: z.ZodOptional<z.ZodNumber>;
  },
);

/** What is omitted keeps its value, null takes it away. Undefined where nothing is limited. */
export function mergedLimits(
  before: LimitValues | undefined,
  params: z.infer<typeof limitsParams> | null | undefined,
): LimitValues | undefined {
  const after: LimitValues = {};
  for (const name of limitNames) {
    const said = params?.[name];
    const value = said === undefined ? before?.[name] : (said ?? undefined);
    if (value !== undefined) after[name] = value;
  }
  return Object.keys(after).length > 0 ? after : undefined;
}

/** Why these cannot be had where `maxima` is the most that the server allows; null where they can. */
export function limitProblem(limits: LimitValues | undefined, maxima: LimitValues = {}): string | null {
  for (const name of limitNames) {
    const value = limits?.[name];
    if (value === undefined) continue;
    const { least, most } = limitRanges[name];
    const allowed = Math.min(most, maxima[name] ?? most);
    if (value < least) return `limits.${name}: ${value} is too little; the least is ${least}`;
    if (value > allowed) return `limits.${name}: ${value} is above the maximum of this server, ${allowed}`;
  }
  const { wall_time_ms: wallTimeMs, lifetime_ms: lifetimeMs } = limits ?? {};
  if (wallTimeMs !== undefined && lifetimeMs !== undefined && wallTimeMs > lifetimeMs)
    return `limits.wall_time_ms: ${wallTimeMs} is longer than lifetime_ms, ${lifetimeMs}: no call can take so long`;
  return null;
}
