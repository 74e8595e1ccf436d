/**
 * An engine with its parts: what one driver needs, from what the process has once. Kept apart from `main.ts` so that a
 * test can build the same engine over other hands.
 */
import type { Decide } from '../guard/guard.ts';
import type { ModelConfig } from '../model/catalogue.ts';
import { isUnknown, modelFor } from '../model/catalogue.ts';
import type { ModelErrorKind } from '../model/model.ts';
import type { PriceList } from '../model/prices.ts';
import { costMicros, priceOf } from '../model/prices.ts';
import { retryDelayMs } from '../model/retry.ts';
import type { JsonObject } from '../protocol/json.ts';
import type { LimitValues } from '../protocol/limits.ts';
import type { PreviewFrame } from '../protocol/previews.ts';
import type { Executor, Limits } from '../sandbox/executor.ts';
import type { TokenUsage } from '../session/model-request.ts';
import type { Blobs, Claim, Store } from '../store/store.ts';
import { findTool } from '../tools/toolset.ts';
import { Acts } from './acts.ts';
import { minter } from './draft.ts';
import { Driver } from './drive.ts';
import { Engine } from './engine.ts';
import type { EnvironmentBuilds } from './environment-builds.ts';
import { FoldedSessions } from './folded-sessions.ts';
import { Hands } from './hands.ts';
import type { HostLosses } from './host-losses.ts';
import type { SessionNetworks } from './network.ts';
import type { Shell } from './realize.ts';

export type EngineParts = {
  store: Store;
  /** Shared with the API of this process, where there is one. */
  folded?: FoldedSessions;
  blobs: Blobs;
  executor: Executor;
  decide: Decide;
  model: ModelConfig;
  prices: PriceList;
  limits: Limits;
  maxima?: LimitValues;
  onPreview(session: string, frame: PreviewFrame): void;
  onError(error: unknown, stream: string | null): void;
  nowMs?(): number;
  random?(): number;
  slots?: number;
  about?(): JsonObject;
  losses?: HostLosses;
  networks?: SessionNetworks;
  environments?: EnvironmentBuilds;
};

const defaultSlots = 64;

export function assembleEngine(parts: EngineParts): Engine {
  const nowMs = parts.nowMs ?? Date.now;
  const folded = parts.folded ?? new FoldedSessions(parts.store);
  return new Engine({
    store: parts.store,
    nowMs,
    slots: parts.slots ?? defaultSlots,
    onError: parts.onError,
    ...(parts.about ? { about: parts.about } : {}),
    newDriver: (claim, worker) => newDriver(claim, worker, { ...parts, folded }, nowMs),
  });
}

function newDriver(
  claim: Claim,
  worker: string,
  parts: EngineParts & { folded: FoldedSessions },
  nowMs: () => number,
): Driver {
  const shell: Shell = {
    mint: minter(worker),
    decide: parts.decide,
    session: claim.stream,
    nowMs,
    onFolded: (state) => {
      const { hostId } = state.sandbox;
      if (hostId !== null) parts.executor.locate?.(claim.stream, hostId);
      parts.networks?.learn(claim, state);
    },
    retryDelayMs: (failure, attempt) => {
      const error = { ...failure, kind: failure.kind as ModelErrorKind, httpStatus: null, message: '' };
      return retryDelayMs({ error, attempt, random: (parts.random ?? Math.random)() });
    },
  };
  const hands = new Hands(parts, claim);
  const acts = new Acts(
    {
      modelFor: (id) => {
        const model = modelFor(id, parts.model);
        return isUnknown(model) ? null : model;
      },
      findTool: (name) => findTool(name) ?? null,
      costMicros: (model, usage) => costOf(model, usage, parts.prices),
      onPreview: (session, frame) => showPreview(parts, session, frame),
    },
    shell,
    hands,
  );
  return new Driver(claim, parts.store, parts.folded, shell, acts);
}

/** A viewer's bug is the viewer's: the model call that it looks at goes on. */
function showPreview(parts: EngineParts, session: string, frame: PreviewFrame): void {
  try {
    parts.onPreview(session, frame);
  } catch (error) {
    parts.onError(error, session);
  }
}

function costOf(model: string, usage: TokenUsage, prices: PriceList): number | null {
  const price = priceOf(model, prices);
  return price ? costMicros(price, usage) : null;
}
