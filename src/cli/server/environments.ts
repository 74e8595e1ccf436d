/** Environments as the command line sees them, and how one is named: by its id or its name. */
import type { EnvironmentBuild } from '../../protocol/environment-builds.ts';
import type { Environment } from '../../protocol/environments.ts';
import { exitCodes, Refused } from '../ending.ts';
import type { Client } from './client.ts';
import { listAll } from './pages.ts';

export function listEnvironments(client: Client): Promise<Environment[]> {
  return listAll<Environment>(client, '/v1/environments');
}

/** The environment that was typed. */
export async function resolveEnvironment(client: Client, typed: string): Promise<Environment> {
  const found = (await listEnvironments(client)).find(({ id, name }) => id === typed || name === typed);
  if (found) return found;
  throw new Refused(`there is no environment ${typed}`, {
    exitCode: exitCodes.usage,
    hint: 'scriptorium environment ls shows them',
  });
}

export function environmentPath({ id }: { id: string }): string {
  return `/v1/environments/${encodeURIComponent(id)}`;
}

/** What an environment has beside its base, in one line. */
export function summaryOf({ config }: Environment): string {
  const { packages, files = [], setup = [] } = config;
  const named = (['apt', 'cargo', 'gem', 'go', 'npm', 'pip'] as const).flatMap((manager) =>
    packages[manager].map((spec) => `${manager}:${spec}`),
  );
  if (files.length > 0) named.push(`${files.length} files`);
  if (setup.length > 0) named.push(`${setup.length} setup commands`);
  return named.length === 0 ? 'the base alone' : named.join(', ');
}

/** How a build ended or stands, in lines. */
export function buildLines({
  status,
  digest,
  duration_ms,
  packages,
  notes,
  error,
}: EnvironmentBuild): string[] {
  const words = { nothing_to_build: 'nothing to build', not_built: 'not built' } as Record<string, string>;
  const lines = [`build: ${words[status] ?? status}`];
  if (digest !== null)
    lines.push(`layer: ${digest}${duration_ms === null ? '' : `, built in ${duration_ms} ms`}`);
  for (const one of packages ?? [])
    lines.push(`  ${one.manager} ${one.name} ${one.version}  ${one.hash ?? ''}`.trimEnd());
  for (const note of notes) lines.push(`note: ${note}`);
  if (error !== null)
    lines.push(`error: ${error.message}`, ...error.output.split('\n').map((line) => `  ${line}`));
  return lines;
}
