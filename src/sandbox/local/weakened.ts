/**
 * What the attack takes out of a sandbox to see that somebody notices (`sabotage.*`, protocol/failpoint.ts). Without
 * failpoints nothing of this is reached.
 */
import { sabotaged } from '../../protocol/failpoint.ts';
import type { Limits } from '../executor.ts';

const tmpMount = ['--tmpfs', '/tmp'];
const tmpOptions = 4;

/** The launcher's command line, weaker. */
export function weakened(commandLine: readonly string[]): string[] {
  const args = [...commandLine];
  if (sabotaged('sabotage.no-seccomp')) args.splice(args.lastIndexOf('--seccomp'), 2);
  if (sabotaged('sabotage.foreign-init')) args.splice(args.indexOf('--as-pid-1'), 1);
  if (sabotaged('sabotage.writable-root')) args.splice(pairAt(args, ['--remount-ro', '/']), 2);
  if (sabotaged('sabotage.host-tmp'))
    args.splice(pairAt(args, tmpMount) - tmpOptions, tmpOptions + tmpMount.length, '--bind', '/tmp', '/tmp');
  if (sabotaged('sabotage.host-network')) args.splice(args.indexOf('--die-with-parent'), 0, '--share-net');
  return args;
}

export function weakenedLimits(limits: Limits): Limits {
  if (!sabotaged('sabotage.no-limits')) return limits;
  return { ...limits, memoryBytes: 2 ** 40, processes: 60_000, openFiles: 1 << 19, tmpBytes: 2 ** 34 };
}

function pairAt(args: readonly string[], pair: readonly string[]): number {
  return args.findIndex((arg, at) => arg === pair[0] && args[at + 1] === pair[1]);
}
