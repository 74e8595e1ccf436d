import type { Layers } from '../../src/sandbox/image/layers.ts';

/** A host that has no layer and makes none. */
export const noLayers: Layers = {
  findLayer: async () => ({ host: 'memory', layer: null, lock: null }),
  sealLayer: async () => ({ refused: 'io_error', message: 'this host keeps no layers' }),
  listLayers: async () => [],
  removeUnusedLayers: async () => ({ removed: [] }),
};
