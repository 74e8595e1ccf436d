/**
 * Builds a layer: from a recipe to a folder that sessions share, in a sandbox of its own.
 *
 * - A build is a session of its own with its own user; what strangers' install scripts leave behind is files of that user
 *   and nothing else. Its processes end before anybody looks at its files (S5), and who looks is in a fresh sandbox (S3).
 * - Nothing half-made is left: a layer is sealed or its session is removed. What a killed engine began is cleared away by
 *   whoever builds the same recipe next, under a higher fence.
 * - Two builders of one recipe on one host: the later fences the earlier one, which then takes what the later made.
 */
import { randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { CallRef, Executor, Limits, ProcessState, Refusal, SandboxSpec } from '../executor.ts';
import { isRefusal } from '../executor.ts';
import { type Layer, type Layers, type Lock, layerPath } from './layers.ts';
import { readLocks } from './locks.ts';
import { type Recipe, type Registries, recipeKey, type SecretName, type Step, stepsOf } from './recipe.ts';
import { readSurvey, surveyCommand } from './survey.ts';

/** The build's own way out, apart from any session's (S2). `secrets`: placeholders by `secretKey` (S1). */
export type BuildNetwork = {
  open(build: {
    session: string;
    fence: number;
    host: string | null;
  }): Promise<
    { network: NonNullable<SandboxSpec['network']>; secrets: Record<string, string> } | { problem: string }
  >;
  /** Hosts that it asked for in vain. */
  denied(build: { session: string; host: string | null }): Promise<string[]>;
  close(build: { session: string; fence: number; host: string | null }): Promise<void>;
};

export function secretKey({ vault_id, name }: SecretName): string {
  return `${vault_id}/${name}`;
}

export type BuildParts = {
  executor: Executor & Layers;
  network: BuildNetwork;
  limits: Limits;
  registries: Registries;
  nowMs(): number;
  stepMs?: number;
  maxBytes?: number;
};

export type BuildRequest = {
  recipe: Recipe;
  /** Null: wherever the layer is, or where the fewest sandboxes run. */
  host: string | null;
  /** Of an earlier build of the same recipe: just that is installed again. */
  lock: Lock | null;
  onStep?(step: { name: string; command: string }): void;
};

export type Built = {
  layer: Layer;
  lock: Lock;
  host: string;
  /** It was there already. */
  reused: boolean;
  durationMs: number;
  /** What was not kept as the build left it. */
  notes: string[];
};

export type BuildFailure = {
  failed: 'command' | 'content' | 'unavailable';
  /** Of a command: as `Step.name`, what was run, how it ended, what it said last. */
  step: string | null;
  command: string | null;
  exitCode: number | null;
  output: string;
  message: string;
};

type Build = { session: string; fence: number; host: string };

const defaultStepMs = 15 * 60_000;
const defaultMaxBytes = 8 * 1024 ** 3;
const tailBytes = 4_000;
const maxOutputBytes = 4 << 20;
const waitForOtherMs = 2_000;
const rounds = 600;

export async function buildLayer(parts: BuildParts, request: BuildRequest): Promise<Built | BuildFailure> {
  const startedMs = performance.now();
  const recipe = recipeKey(request.recipe);
  for (let round = 0; round < rounds; round++) {
    const found = await parts.executor.findLayer({ recipe, host: request.host });
    const durationMs = Math.round(performance.now() - startedMs);
    const { layer, lock, host } = found;
    if (layer && lock) return { layer, lock, host, reused: true, durationMs, notes: [] };
    if (round === 0 || round % 150 === 0) {
      const build = { session: `build_${recipe.slice(0, 40)}`, fence: newFence(parts), host };
      const ended = await attempt(parts, request, build);
      if (ended !== 'fenced')
        return 'failed' in ended
          ? ended
          : { ...ended, durationMs: Math.round(performance.now() - startedMs) };
    }
    await delay(waitForOtherMs);
  }
  return failure('unavailable', 'another engine has been building this environment for too long');
}

/** `fenced`: somebody else builds the same. */
async function attempt(
  parts: BuildParts,
  request: BuildRequest,
  build: Build,
): Promise<Built | BuildFailure | 'fenced'> {
  const { executor, network } = parts;
  const { session, fence, host } = build;
  executor.locate?.(session, host);
  const cleared = await executor.destroySandbox({ session, fence, removeDisk: true });
  if (isRefusal(cleared)) return endingOf(cleared);
  executor.locate?.(session, host);
  const way = await network.open(build);
  if ('problem' in way) return failure('unavailable', way.problem);
  let ended: Built | BuildFailure | 'fenced' = failure('unavailable', 'the build was cut off');
  try {
    ended = await install(parts, request, build, way);
    if (ended === 'fenced' || !('failed' in ended) || ended.failed !== 'command') return ended;
    ended = withDenied(ended, way.network.kind === 'gateway' ? await network.denied(build) : []);
    return ended;
  } finally {
    await network.close(build);
    // Also where this throws: the next builder clears it away.
    if (ended !== 'fenced') await executor.destroySandbox({ session, fence, removeDisk: true });
  }
}

async function install(
  parts: BuildParts,
  request: BuildRequest,
  build: Build,
  way: { network: NonNullable<SandboxSpec['network']>; secrets: Record<string, string> },
): Promise<Built | BuildFailure | 'fenced'> {
  const { executor, limits } = parts;
  const spec = { ...build, isolation: 'bubblewrap', limits, layer: 'build' } as const;
  const made = await executor.createSandbox({ ...spec, env: {}, network: way.network });
  if (isRefusal(made)) return endingOf(made);
  const steps = stepsOf(request.recipe, parts.registries, request.lock);
  for (const [at, step] of steps.entries()) {
    request.onStep?.({ name: step.name, command: step.command });
    const secrets = Object.fromEntries(
      (step.secrets ?? []).map((one) => [one.name, way.secrets[secretKey(one)] ?? '']),
    );
    const failed = await runStep(
      parts,
      { ...build, callId: `step_${at}` },
      { ...step, env: { ...step.env, ...secrets } },
    );
    if (failed) return failed;
  }
  // Whatever a step left running ends here, before its files are looked at.
  const stopped = await executor.destroySandbox({ ...build, removeDisk: false });
  if (isRefusal(stopped)) return endingOf(stopped);
  const again = await executor.createSandbox({ ...spec, env: {}, network: { kind: 'none' } });
  if (isRefusal(again)) return endingOf(again);
  return seal(parts, request, build);
}

async function seal(
  parts: BuildParts,
  request: BuildRequest,
  build: Build,
): Promise<Built | BuildFailure | 'fenced'> {
  const { executor, maxBytes = defaultMaxBytes } = parts;
  const recipe = recipeKey(request.recipe);
  const locks = await readLocks(executor, build, request.recipe);
  const ran = await run(
    executor,
    { ...build, callId: 'survey' },
    surveyCommand(layerPath, maxBytes),
    {},
    undefined,
    defaultStepMs,
  );
  if (isRefusal(ran)) return endingOf(ran);
  const survey = readSurvey(ran.output);
  if (survey === null) return failure('content', `the layer could not be read: ${ran.output.slice(-500)}`);
  if ('problem' in survey) return failure('content', `the layer cannot be kept: ${survey.problem}`);
  const { digest, files, sizeBytes, removed, disarmed } = survey;
  const lock = { format: 1 as const, recipe, ...locks };
  const layer = await executor.sealLayer({ ...build, layer: { digest, recipe, files, sizeBytes }, lock });
  if (isRefusal(layer)) return endingOf(layer);
  const sealed = await executor.findLayer({ recipe, host: build.host });
  if (!sealed.lock) return failure('unavailable', 'the layer was sealed and is gone');
  const notes = [
    ...removed.map((path) => `${path}: a special file is not kept`),
    ...disarmed.map((path) => `${path}: setuid and setgid are not kept`),
  ];
  return { layer, lock: sealed.lock, host: build.host, reused: false, durationMs: 0, notes };
}

async function runStep(parts: BuildParts, ref: CallRef, step: Step): Promise<BuildFailure | 'fenced' | null> {
  const { executor, stepMs = defaultStepMs } = parts;
  const ran = await run(executor, ref, step.argv, step.env, step.stdin, stepMs);
  if (isRefusal(ran)) return endingOf(ran);
  const { state, output } = ran;
  const about = { step: step.name, command: step.command, output };
  if (state.state === 'lost') {
    // Perhaps by whoever builds the same and came later.
    const now = await executor.callStatus(ref);
    if (isRefusal(now) && now.refused === 'fenced') return 'fenced';
    return {
      ...failure('command', `${step.name}: ${step.command}: its sandbox ended: ${state.reason}`),
      ...about,
    };
  }
  if (state.exitCode === 0) return null;
  const how =
    state.endedBy === 'timeout'
      ? `did not end within ${Math.round(stepMs / 1000)} s`
      : state.endedBy === 'memory'
        ? 'ran out of memory'
        : state.exitCode === null
          ? `was ended by ${state.signal}`
          : `ended with exit code ${state.exitCode}`;
  const message = `${step.name}: \`${step.command}\` ${how}`;
  return { ...failure('command', message), ...about, exitCode: state.exitCode };
}

type Ran = { state: Exclude<ProcessState, { state: 'running' }>; output: string };

/** To its end; `output` is the last of what it said. */
async function run(
  executor: Executor,
  ref: CallRef,
  argv: string[],
  env: Record<string, string>,
  stdin: string | undefined,
  timeoutMs: number,
): Promise<Ran | Refusal> {
  const { session, fence, callId } = ref;
  const call = { session, fence, callId };
  let read = await executor.startProcess({
    ...{ ...call, argv, env, timeoutMs, maxOutputBytes },
    ...(stdin === undefined ? {} : { stdin: Buffer.from(stdin) }),
    ...{ cwd: layerPath, mergeStderr: true, waitMs: 1_000 },
  });
  let output = '';
  for (;;) {
    if (isRefusal(read)) return read;
    for (const { data } of read.chunks)
      output = `${output}${Buffer.from(data).toString('utf8')}`.slice(-tailBytes * 4);
    if (read.process.state !== 'running' && read.chunks.length === 0) break;
    read = await executor.readProcess({ ...call, afterSeq: read.nextSeq, maxBytes: 1 << 20, waitMs: 5_000 });
  }
  return { state: read.process, output: output.slice(-tailBytes) };
}

function withDenied(ended: BuildFailure, hosts: string[]): BuildFailure {
  if (hosts.length === 0) return ended;
  const why = `The network refused ${hosts.join(', ')}: a build reaches the registries of package managers only.`;
  return { ...ended, message: `${ended.message}. ${why}` };
}

/** Above every earlier builder's, and no other's of the same moment. */
function newFence({ nowMs }: BuildParts): number {
  return nowMs() * 1000 + randomInt(1000);
}

function endingOf(refusal: Refusal): BuildFailure | 'fenced' {
  return refusal.refused === 'fenced' ? 'fenced' : failure('unavailable', refusal.message);
}

function failure(failed: BuildFailure['failed'], message: string): BuildFailure {
  return { failed, step: null, command: null, exitCode: null, output: '', message };
}
