import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { driftOf, hostBase, LayerStore } from './layer-store.ts';

const digest = 'd'.repeat(64);
const recipe = (letter: string) => letter.repeat(64);
const trash = async (folder: string): Promise<void> => rmSync(folder, { recursive: true, force: true });

let stateDir: string;
let store: LayerStore;

beforeEach(() => {
  stateDir = mkdtempSync(path.join(tmpdir(), 'scriptorium-layer-store-'));
  store = new LayerStore(stateDir, trash);
});

afterEach(() => rmSync(stateDir, { recursive: true, force: true }));

function seal(of: string) {
  const from = path.join(stateDir, `made-${of}`);
  mkdirSync(from);
  writeFileSync(path.join(from, 'f'), 'content');
  const layer = { digest, recipe: recipe(of), sizeBytes: 7, files: 1, builtAtMs: 1 };
  return store.seal(from, layer, {
    format: 1,
    recipe: layer.recipe,
    base: hostBase(),
    packages: [],
    files: {},
  });
}

it('two recipes that come to the same content at once share one layer, and neither seal breaks the other', async () => {
  const sealed = await Promise.all([seal('a'), seal('b')]);
  expect(sealed.map((layer) => layer.digest)).toEqual([digest, digest]);
  expect(store.list()).toHaveLength(1);
  expect([store.byRecipe(recipe('a')), store.byRecipe(recipe('b'))]).not.toContain(null);
});

it('what a crash left half-made is no layer, and is cleared away when the host starts', async () => {
  const torn = path.join(stateDir, 'images', `${digest}.new`);
  mkdirSync(path.join(torn, 'layer'), { recursive: true });
  // A layer that lost its description, and a recipe that points to it.
  mkdirSync(path.join(stateDir, 'images', digest, 'layer'), { recursive: true });
  writeFileSync(path.join(stateDir, 'images', 'recipes', recipe('a')), digest);
  const next = new LayerStore(stateDir, trash);
  await new Promise((resolve) => setImmediate(resolve));
  expect(existsSync(torn)).toBe(false);
  expect([next.content(digest), next.byRecipe(recipe('a'))]).toEqual([null, null]);
  expect(next.list()).toEqual([]);
});

it('names that are no digest lead nowhere, whatever lies there', () => {
  writeFileSync(path.join(stateDir, 'images', 'layer.json'), '{}');
  for (const name of ['.', '..', '', 'recipes', '../images', `${digest}/..`])
    expect(store.content(name)).toBeNull();
  expect(store.byRecipe('../../etc/passwd')).toBeNull();
});

it('another release and other packages are drift, the same base is not', () => {
  const base = hostBase();
  const lock = { format: 1 as const, recipe: recipe('a'), base, packages: [], files: {} };
  expect(driftOf(lock, base)).toBeNull();
  expect(driftOf(lock, { ...base, release: '99' })).toContain('runs on');
  expect(driftOf(lock, { ...base, packagesSha256: digest })).toContain('packages of the base system');
});
