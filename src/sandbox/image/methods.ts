/** The host's methods for layers, in the words of `layers.ts`. Who asks is an engine; what it says is checked for form. */
import type { Host } from '../host/host.ts';
import { type Params, takeSession } from '../host/params.ts';
import type { Session } from '../host/session.ts';
import { hostBase } from './layer-store.ts';
import type { LockedPackage } from './layers.ts';
import { buildFolder } from './mount.ts';
import { managers } from './recipe.ts';

const digest = /^[0-9a-f]{64}$/;
const maxPackages = 100_000;
const maxText = 16 << 20;

type Answer = Promise<object>;
type WithSession = (
  host: Host,
  request: { session: string; fence: number },
  act: (session: Session) => Answer,
) => Answer;

async function find(host: Host, params: Params): Answer {
  const found = host.layers.byRecipe(params.string('recipe', 64, digest));
  return { host: host.id, layer: found?.layer ?? null, lock: found?.lock ?? null };
}

function takeLock(p: Params, recipe: string) {
  const texts = p.object('files');
  return {
    format: 1 as const,
    recipe,
    base: hostBase(),
    packages: p.array('packages', maxPackages).map((_, at): LockedPackage => {
      const one = p.item('packages', at);
      return {
        manager: one.oneOf('manager', managers),
        name: one.string('name', 300),
        version: one.string('version', 300),
        hash: one.isNull('hash') ? null : one.string('hash', 300),
      };
    }),
    files: Object.fromEntries(texts.names().map((name) => [name, texts.string(name, maxText)])),
  };
}

/** Needs no sandbox; ends the one that there is. */
function seal(withSession: WithSession) {
  return (host: Host, params: Params): Answer => {
    const request = takeSession(params);
    const l = params.object('layer');
    const layer = {
      digest: l.string('digest', 64, digest),
      recipe: l.string('recipe', 64, digest),
      sizeBytes: l.integer('sizeBytes', 0, 2 ** 52),
      files: l.integer('files', 0, 2 ** 40),
      builtAtMs: Date.now(),
    };
    const lock = takeLock(params.object('lock'), layer.recipe);
    return withSession(host, request, async (session) => {
      if (session.spec?.layer !== 'build')
        return { refused: 'not_found', message: `session ${request.session} builds no layer` };
      await session.stop('destroyed');
      return host.layers.seal(buildFolder(session), layer, lock);
    });
  };
}

export function layerMethods(withSession: WithSession) {
  return {
    'layer/find': find,
    'layer/seal': seal(withSession),
    'layer/list': async (host: Host): Answer =>
      host.layers.list().map((layer) => ({ ...layer, host: host.id })),
    'layer/removeUnused': async (host: Host, params: Params): Answer => {
      const olderThanMs = params.integer('olderThanMs', 0, 2 ** 52);
      await host.removeLeftBuilds(olderThanMs);
      return { removed: await host.layers.removeUnused(olderThanMs, Date.now()) };
    },
  };
}
