/**
 * The port of layers: what sessions of one environment have beside the base system, built once, read-only and shared.
 * A host keeps them; `build.ts` makes them through the executor.
 *
 * - A layer is named by the digest of its content. The same recipe may give another one on another day; who has pinned a
 *   digest gets that content or a Refusal, never something else.
 * - S3: nothing here looks into a layer on the host's side; what is in it is only ever opened inside a sandbox.
 */
import type { Refusal } from '../executor.ts';

/** Where a layer stands in every sandbox that has one. */
export const layerPath = '/opt/env';

/** What lies below a layer; two that differ may not give the same sandbox. */
export type Base = {
  kind: 'host';
  /** As /etc/os-release names it. */
  name: string;
  release: string;
  architecture: string;
  /** sha256 (hex) of what the system's package manager says is installed; null where there is none that we know. */
  packagesSha256: string | null;
};

export type LockedPackage = {
  manager: 'apt' | 'cargo' | 'gem' | 'go' | 'npm' | 'pip';
  name: string;
  version: string;
  /** As its manager tells it (`sha512-…`, `sha256:…`, `h1:…`); null where it does not. */
  hash: string | null;
};

/** `environment.lock`: what was really installed, and what a manager needs to install just that again. */
export type Lock = {
  format: 1;
  /** Of the recipe (`recipe.ts`) that it answers. */
  recipe: string;
  base: Base;
  packages: LockedPackage[];
  /** By file name below the layer, where a manager has a lock file of its own. */
  files: Record<string, string>;
};

export type Layer = {
  /** sha256 (hex) over every path, mode, link and content. */
  digest: string;
  recipe: string;
  sizeBytes: number;
  files: number;
  builtAtMs: number;
};

export type LayerView = Layer & { sessions: number };

export interface Layers {
  /** The layer of a recipe, and where. Without one: the host that would have it. */
  findLayer(request: {
    recipe: string;
    host: string | null;
  }): Promise<{ host: string; layer: Layer | null; lock: Lock | null }>;
  /**
   * Makes the layer folder of a session that was created with `layer: 'build'` a layer, durably; the session's sandbox is
   * ended. The content must be as `digest` says: whoever asks has looked, in a sandbox with nothing else in it. Where the
   * content is there already, that one stays.
   */
  sealLayer(request: {
    session: string;
    fence: number;
    layer: Omit<Layer, 'builtAtMs'>;
    lock: Omit<Lock, 'base'>;
  }): Promise<Layer | Refusal>;
  listLayers(): Promise<(LayerView & { host: string })[]>;
  /** Removes layers that no session's disk refers to; those younger than this stay. */
  removeUnusedLayers(request: { olderThanMs: number }): Promise<{ removed: string[] }>;
}
