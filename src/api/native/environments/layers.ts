import { z } from 'zod';
import { cleanedLayers, cleanLayersParams, environmentLayer } from '../../../protocol/environment-builds.ts';
import { problem } from '../../../protocol/errors.ts';
import type { JsonObject } from '../../../protocol/json.ts';
import { operation } from '../../operation.ts';
import { orUnavailable } from './reach.ts';

const noLayers = problem('not_supported', 'This server has no sandbox host beside it, and so no layers.');

export const listEnvironmentLayers = operation({
  id: 'listEnvironmentLayers',
  method: 'get',
  path: '/v1/environment_layers',
  tag: 'environments',
  summary: 'List what environments have been built into, on every connected host',
  response: z.looseObject({ data: z.array(environmentLayer) }),
  problems: ['not_supported'],
  async run({ deps }) {
    const layers = await orUnavailable(deps.environments?.layers());
    if (layers && 'problem' in layers) return layers;
    return layers ? { body: { data: layers as unknown as JsonObject[] } } : noLayers;
  },
});

const daySeconds = 86_400;

/** A layer is made again, from its lock, when a session needs it. */
export const cleanEnvironmentLayers = operation({
  id: 'cleanEnvironmentLayers',
  method: 'post',
  path: '/v1/environment_layers/clean',
  tag: 'environments',
  summary: 'Remove layers that no session refers to',
  body: cleanLayersParams,
  response: cleanedLayers,
  problems: ['not_supported'],
  async run({ deps, body }) {
    const olderThanMs = (body.older_than_seconds ?? daySeconds) * 1000;
    const removed = await orUnavailable(deps.environments?.clean(olderThanMs));
    if (removed && 'problem' in removed) return removed;
    return removed ? { body: { type: 'environment_layers_cleaned', removed } } : noLayers;
  },
});
