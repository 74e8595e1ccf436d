/** Limits of an environment (protocol/limits.ts): merged into its config, and refused where this server has less. */
import type { z } from 'zod';
import type { EnvironmentConfig } from '../../../protocol/environments.ts';
import type { Problem } from '../../../protocol/errors.ts';
import { problem } from '../../../protocol/errors.ts';
import type { LimitValues, limitsParams } from '../../../protocol/limits.ts';
import { limitProblem, mergedLimits } from '../../../protocol/limits.ts';
import type { ApiDeps } from '../../deps.ts';

type Said = { limits?: z.infer<typeof limitsParams> | null | undefined } | null | undefined;

export function withLimits(config: EnvironmentConfig, said: Said): EnvironmentConfig {
  const { limits: before, ...rest } = config;
  const limits = mergedLimits(before, said?.limits);
  return limits === undefined ? rest : { ...rest, limits };
}

/** A 400 that names the field, or null. */
export function limitsRefusal(deps: ApiDeps, limits: LimitValues | undefined): Problem | null {
  const excess = limitProblem(limits, deps.limitMaxima);
  return excess === null ? null : problem('limit_out_of_range', `config.${excess}`);
}
