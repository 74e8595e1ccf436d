/**
 * The layers of one host: `images/<digest>/{layer/,layer.json,environment.lock,sessions/}` and `images/recipes/<key>`.
 *
 * - A layer is there whole or not at all, also after a power cut: content is synced before its folder gets its name, and
 *   the recipe points to it last.
 * - S3: the folder `layer` is moved and mounted, never opened.
 * - A layer that a session's disk refers to is not removed: each leaves its name in `sessions/`.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { fsyncDirectory, makeDurableDirectory, writeDurableFile } from '../../store/durable-files.ts';
import type { Base, Layer, LayerView, Lock } from './layers.ts';

const digestForm = /^[0-9a-f]{64}$/;

export class LayerStore {
  readonly #folder: string;
  readonly #trash: (folder: string) => Promise<void>;
  #turn: Promise<unknown> = Promise.resolve();

  /** `trash` takes a folder away and removes it, however hard that was made. */
  constructor(stateDir: string, trash: (folder: string) => Promise<void>) {
    this.#folder = path.join(stateDir, 'images');
    this.#trash = trash;
    makeDurableDirectory(path.join(this.#folder, 'recipes'), 0o700);
    // Torn by a crash between two renames: it has no content that anybody could have pinned.
    for (const name of readdirSync(this.#folder))
      if (name.endsWith('.new')) void trash(path.join(this.#folder, name));
  }

  /** The layer's content, to be mounted; null where it is not here. */
  content(digest: string): string | null {
    const place = path.join(this.#folder, digest);
    return digestForm.test(digest) && existsSync(path.join(place, 'layer.json'))
      ? path.join(place, 'layer')
      : null;
  }

  byRecipe(recipe: string): { layer: Layer; lock: Lock } | null {
    const pointer = path.join(this.#folder, 'recipes', recipe);
    if (!digestForm.test(recipe) || !existsSync(pointer)) return null;
    const digest = readFileSync(pointer, 'utf8');
    if (this.content(digest) === null) return null;
    const lock = this.#read(digest, 'environment.lock') as Lock;
    // Where two recipes gave the same content, the lock is the other's.
    return { layer: { ...(this.#read(digest, 'layer.json') as Layer), recipe }, lock: { ...lock, recipe } };
  }

  lockOf(digest: string): Lock | null {
    return this.content(digest) === null ? null : (this.#read(digest, 'environment.lock') as Lock);
  }

  #read(digest: string, name: string): unknown {
    return JSON.parse(readFileSync(path.join(this.#folder, digest, name), 'utf8'));
  }

  /** One at a time. Takes the folder `from` away where its content is new; the first layer of a recipe stays. */
  seal(from: string, layer: Layer, lock: Lock): Promise<Layer> {
    const sealed = this.#turn.then(() => this.byRecipe(layer.recipe)?.layer ?? this.#seal(from, layer, lock));
    this.#turn = sealed.catch(() => undefined);
    return sealed;
  }

  async #seal(from: string, layer: Layer, lock: Lock): Promise<Layer> {
    const place = path.join(this.#folder, layer.digest);
    if (this.content(layer.digest) === null) {
      const fresh = `${place}.new`;
      if (existsSync(fresh)) await this.#trash(fresh);
      mkdirSync(path.join(fresh, 'sessions'), { recursive: true, mode: 0o700 });
      renameSync(from, path.join(fresh, 'layer'));
      writeDurableFile(
        path.join(fresh, 'environment.lock'),
        Buffer.from(JSON.stringify(lock, null, 1)),
        0o600,
      );
      writeDurableFile(path.join(fresh, 'layer.json'), Buffer.from(JSON.stringify(layer)), 0o600);
      // Of everything at once: a build wrote thousands of files that nobody has synced.
      await promisify(execFile)('/bin/sync', ['--file-system', fresh], { env: {} });
      renameSync(fresh, place);
      fsyncDirectory(this.#folder);
    }
    writeDurableFile(path.join(this.#folder, 'recipes', layer.recipe), Buffer.from(layer.digest), 0o600);
    return layer;
  }

  /** The session's disk refers to the layer from now on. */
  hold(digest: string, session: string): void {
    const file = path.join(this.#folder, digest, 'sessions', session);
    if (!existsSync(file)) writeFileSync(file, '', { mode: 0o600 });
  }

  /** The session's disk is gone. */
  letGo(session: string): void {
    for (const { digest } of this.list())
      rmSync(path.join(this.#folder, digest, 'sessions', session), { force: true });
  }

  list(): LayerView[] {
    return readdirSync(this.#folder).flatMap((digest): LayerView[] => {
      if (this.content(digest) === null) return [];
      const sessions = readdirSync(path.join(this.#folder, digest, 'sessions')).length;
      return [{ ...(this.#read(digest, 'layer.json') as Layer), sessions }];
    });
  }

  async removeUnused(olderThanMs: number, nowMs: number): Promise<string[]> {
    const unused = this.list().filter((one) => one.sessions === 0 && nowMs - one.builtAtMs >= olderThanMs);
    for (const { digest } of unused) {
      const dead = path.join(this.#folder, `${digest}.new`);
      renameSync(path.join(this.#folder, digest), dead);
      await this.#trash(dead);
    }
    const recipes = path.join(this.#folder, 'recipes');
    for (const name of readdirSync(recipes))
      if (this.byRecipe(name) === null) rmSync(path.join(recipes, name), { force: true });
    return unused.map(({ digest }) => digest);
  }
}

const packageLists = ['/var/lib/dpkg/status', '/var/lib/rpm/rpmdb.sqlite', '/lib/apk/db/installed'];

/** What this machine gives to its sandboxes as /usr, as far as it tells. */
export function hostBase(): Base {
  const release = readIfThere('/etc/os-release');
  const field = (name: string): string =>
    new RegExp(`^${name}="?([^"\n]*)"?$`, 'm').exec(release)?.[1] ?? 'unknown';
  return {
    kind: 'host',
    name: field('ID'),
    release: readIfThere('/etc/debian_version').trim() || field('VERSION_ID'),
    architecture: process.arch,
    packagesSha256: packagesDigest(),
  };
}

let known: { file: string; mtimeMs: number; sha256: string } | null = null;

/** Read again only where it has changed: every sandbox with a layer asks. */
function packagesDigest(): string | null {
  for (const file of packageLists) {
    const mtimeMs = statSync(file, { throwIfNoEntry: false })?.mtimeMs;
    if (mtimeMs === undefined) continue;
    if (known?.file !== file || known.mtimeMs !== mtimeMs)
      known = { file, mtimeMs, sha256: createHash('sha256').update(readFileSync(file)).digest('hex') };
    return known.sha256;
  }
  return null;
}

/** Why a sandbox on this base may not be what the layer was built for; null where it is the same. */
export function driftOf(lock: Lock, base: Base): string | null {
  const was = `${lock.base.name} ${lock.base.release} ${lock.base.architecture}`;
  const is = `${base.name} ${base.release} ${base.architecture}`;
  if (was !== is) return `the environment was built on ${was} and runs on ${is}`;
  if (lock.base.packagesSha256 === base.packagesSha256) return null;
  return `packages of the base system (${is}) have changed since the environment was built`;
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return '';
  }
}
