/**
 * A session's environment, as its hands ask for it before each sandbox: the layer that the session has pinned, found or
 * built, and the variables that come with it. Every build is in the session's log, before its sandbox (S4).
 */
import type { EnvironmentConfig } from '../protocol/environments.ts';
import { layerEnvironment, recipeOf } from '../sandbox/image/recipe.ts';
import type { Draft } from '../session/events.ts';
import type { SessionState } from '../session/state.ts';
import type { Tenant } from '../store/store.ts';
import { draft } from './draft.ts';
import { type EnvironmentBuilds, shownBuild, shownFailure } from './environment-builds.ts';
import type { Shell } from './realize.ts';

/** For `SandboxSpec`; `host`: where the layer is. */
export type EnvironmentReady = {
  layer?: { digest: string };
  env: Record<string, string>;
  host: string | null;
};

type Asked = {
  builds: EnvironmentBuilds | null;
  tenant: Tenant;
  state: SessionState;
  /** What the log says; null: nothing yet, or that layer is gone. */
  pinned: string | null;
  host: string | null;
  shell: Shell;
  emit(drafts: Draft[]): Promise<boolean>;
};

export async function readyEnvironment(asked: Asked): Promise<EnvironmentReady | { problem: string }> {
  const { builds, tenant, state, pinned, host, shell, emit } = asked;
  const { config } = (state.config?.environment ?? {}) as { config?: EnvironmentConfig };
  const own = config?.env ?? {};
  const recipe = config ? recipeOf(config, process.arch) : null;
  if (recipe === null) return { env: own, host };
  if (builds === null) return { problem: 'This engine builds no environments.' };
  const env = { ...layerEnvironment, ...own };
  if (pinned !== null) return { layer: { digest: pinned }, env, host };
  const found = await builds.find(recipe, host);
  if (found.digest === null) {
    const facts = { base: recipe.base, packages: recipe.packages };
    void emit([draft(shell.mint, state, 'environment.build_started', facts, {})]);
  }
  const ended = await builds.build(tenant, recipe, found.host);
  if ('failed' in ended) {
    const facts = shownFailure(ended);
    void emit([draft(shell.mint, state, 'environment.build_failed', facts, {})]);
    const last = ended.output === '' ? '' : `\nIts last output:\n${ended.output}`;
    return { problem: `the environment could not be built: ${ended.message}${last}` };
  }
  const said = emit([draft(shell.mint, state, 'environment.build_finished', shownBuild(ended), {})]);
  // Nothing runs on a layer that the log does not name.
  if (!(await said)) return { problem: 'the engine has let go of the session' };
  const { digest } = ended.layer;
  const before = state.sandbox.layer;
  if (before !== null && before !== digest) {
    const message = `the layer ${before} was gone; made again from its lock it came out as another one`;
    void emit([draft(shell.mint, state, 'environment.drifted', { digest, message }, {})]);
  }
  return { layer: { digest }, env, host: ended.host };
}

/** As it is, for whoever looks into the workspace: nothing is built for that. */
export function settledEnvironment({
  config,
  sandbox,
}: SessionState): Pick<EnvironmentReady, 'layer' | 'env'> {
  const environment = (config?.environment ?? {}) as { config?: EnvironmentConfig };
  const own = environment.config?.env ?? {};
  if (sandbox.layer === null) return { env: own };
  return { layer: { digest: sandbox.layer }, env: { ...layerEnvironment, ...own } };
}
