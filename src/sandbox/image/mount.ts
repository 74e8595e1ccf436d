/** What a sandbox of this specification has at /opt/env. */
import { chmodSync, chownSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import type { Refusal, SandboxSpec } from '../executor.ts';
import { driftOf, hostBase, type LayerStore } from './layer-store.ts';

export type LayerMount = { from: string; readOnly: boolean };

type SessionDisk = { id: string; folder: string; uid: number | null };

/** The writable folder of a build; it becomes the layer's content as it is. */
export function buildFolder(session: SessionDisk): string {
  return path.join(session.folder, 'layer');
}

/** Null: nothing. A layer that is mounted is held for as long as the session has a disk. */
export function layerMount(
  layers: LayerStore,
  session: SessionDisk,
  { layer, isolation }: SandboxSpec,
): LayerMount | Refusal | null {
  if (layer === undefined) return null;
  if (isolation === 'none')
    return {
      refused: 'isolation_unavailable',
      message:
        'packages, files and setup commands of an environment need isolation, and this session has none',
    };
  if (layer === 'build') {
    const from = buildFolder(session);
    mkdirSync(from, { recursive: true, mode: 0o755 });
    if (session.uid !== null) chownSync(from, session.uid, session.uid);
    chmodSync(from, 0o755);
    return { from, readOnly: false };
  }
  const from = layers.content(layer.digest);
  if (from === null)
    return {
      refused: 'no_layer',
      message: `layer ${layer.digest} is not on this host; it must be built again`,
    };
  layers.hold(layer.digest, session.id);
  return { from, readOnly: true };
}

/** As `SandboxInfo.drift`. */
export function layerDrift(layers: LayerStore, { layer }: SandboxSpec): { drift?: string } {
  const lock = typeof layer === 'object' ? layers.lockOf(layer.digest) : null;
  const drift = lock && driftOf(lock, hostBase());
  return drift === null ? {} : { drift };
}
