/**
 * When a checkpoint is made without being asked for: at the end of a turn that may have changed the workspace, where it
 * costs little, or where the environment says so. Pure; read by `decide`.
 */
import type { JsonObject } from '../protocol/json.ts';
import type { SessionState } from './state.ts';

/** Drivers whose checkpoints cost next to nothing, however large the workspace is. */
const cheapDrivers = new Set(['btrfs', 'reflink']);
/** Of other drivers: one that took longer than this was the session's last that nobody asked for. */
const maxTookMs = 1_000;
/** Nor is one begun where the repository alone is larger. */
const maxRepositoryBytes = 64 * 1024 * 1024;

/** Checkpoints kept that nobody asked for; the oldest give way. */
export const maxAutomatic = 10;

export function isDue(state: SessionState): boolean {
  const { position, making, restoring, requests, isTouched } = state.checkpoints;
  if (state.turn !== null || position === null || making !== null || restoring !== null) return false;
  return requests.length > 0 || (isTouched && isAutomatic(state));
}

function isAutomatic({ config, sandbox, checkpoints }: SessionState): boolean {
  const { diskDriver } = sandbox;
  const policy = policyOf(config?.environment);
  if (policy === 'off' || diskDriver === null) return false;
  if (policy === 'turn_end' || cheapDrivers.has(diskDriver)) return true;
  const last = checkpoints.kept.at(-1);
  if (last !== undefined && last.tookMs > maxTookMs) return false;
  return (config?.repository?.sizeBytes ?? 0) <= maxRepositoryBytes;
}

/** Of environments of before there were checkpoints, and of those that do not say: undefined. */
function policyOf(environment: JsonObject | undefined): unknown {
  const settings = environment?.config;
  return typeof settings === 'object' && settings !== null && !Array.isArray(settings)
    ? settings.checkpoints
    : undefined;
}

/** The automatic ones that the next one makes too many. */
export function superseded({ checkpoints }: SessionState): string[] {
  const automatic = checkpoints.kept.filter(({ reason }) => reason === 'turn_end');
  return automatic.slice(0, Math.max(0, automatic.length + 1 - maxAutomatic)).map(({ id }) => id);
}
