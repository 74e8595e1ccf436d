/**
 * What a layer is made of, and by which commands. Pure: the same environment gives the same recipe and the same key.
 *
 * - Package names are arguments after `--`, never a shell's text.
 * - A lock replaces names by exactly what was installed.
 */
import { createHash } from 'node:crypto';
import type { NetworkRule } from '../../gateway/policy.ts';
import { packageRegistries } from '../../gateway/presets.ts';
import type { EnvironmentConfig } from '../../protocol/environments.ts';
import { canonicalJson, type JsonObject } from '../../protocol/json.ts';
import { type Lock, layerPath } from './layers.ts';

export const managers = ['apt', 'cargo', 'gem', 'go', 'npm', 'pip'] as const;
export type Manager = (typeof managers)[number];

export type Recipe = {
  base: 'host';
  packages: Partial<Record<Manager, string[]>>;
  files: { path: string; content: string }[];
  setup: { run: string; secrets?: SecretName[] }[];
  architecture: string;
};

/** A variable of a vault, for one command. Names alone: a value is in no recipe (S1). */
export type SecretName = { vault_id: string; name: string };

/** One command of a build. */
export type Step = {
  /** `npm`, `setup[0]`: as events and errors name it. */
  name: string;
  /** As a person would have typed it. */
  command: string;
  argv: string[];
  stdin?: string;
  env: Record<string, string>;
  /** Variables that it has besides, as whoever opens the build's network gives them. */
  secrets?: SecretName[];
};

/** Where a manager is to be asked instead of its usual registry: the operator's word. By manager: a URL. */
export type Registries = Partial<Record<Manager, string>>;

const format = 1;

/** Hex; two recipes with the same key are the same. */
export function recipeKey(recipe: Recipe): string {
  return createHash('sha256')
    .update(canonicalJson({ format, ...recipe } as unknown as JsonObject))
    .digest('hex');
}

/** Null: nothing of it is to be built. */
export function recipeOf(config: EnvironmentConfig, architecture: string): Recipe | null {
  const { files = [], setup = [] } = config;
  const asked = managers.filter((one) => config.packages[one].length > 0);
  if (files.length === 0 && setup.length === 0 && asked.length === 0) return null;
  return {
    base: 'host',
    packages: Object.fromEntries(asked.map((one) => [one, config.packages[one]])),
    files: files.map(({ path, content }) => ({ path, content })),
    setup: setup.map(({ run, secrets }) => (secrets?.length ? { run, secrets } : { run })),
    architecture,
  };
}

/** Variables of every program of a session that has the layer. */
export const layerEnvironment: Record<string, string> = {
  PATH: [
    '/opt/scriptorium/bin',
    ...['bin', 'npm/node_modules/.bin', 'python/bin', 'cargo/bin', 'gem/bin', 'go/bin'].map(
      (folder) => `${layerPath}/${folder}`,
    ),
    ...['/usr/local/bin', '/usr/bin', '/bin'],
  ].join(':'),
  NODE_PATH: `${layerPath}/npm/node_modules`,
  PYTHONPATH: `${layerPath}/python`,
  GEM_PATH: `${layerPath}/gem`,
};

/** What a build may speak with; null: nobody. A registry of the operator's own stands for its manager's usual ones. */
export function buildRules({ packages, setup }: Recipe, own: Registries): NetworkRule[] | null {
  const used = setup.length > 0 ? managers : managers.filter((one) => packages[one]?.length);
  if (used.length === 0) return null;
  return used.map((one): NetworkRule => {
    const at = own[one] === undefined ? null : new URL(own[one]);
    const port = at === null || at.port === '' ? null : [Number(at.port)];
    const hosts = at === null ? [...packageRegistries[one]] : [at.hostname];
    return { id: `registries.${one}`, effect: 'allow', hosts, ports: port, methods: null, paths: null };
  });
}

/** In the order of the managers' names, then files, then setup. */
export function stepsOf(recipe: Recipe, registries: Registries, lock: Lock | null): Step[] {
  const env = buildEnvironment(registries);
  const installs = managers.flatMap((manager): Step[] => {
    const specs = recipe.packages[manager] ?? [];
    return specs.length === 0 ? [] : installSteps(manager, specs, lock).map((step) => ({ ...step, env }));
  });
  const files = recipe.files.map(
    (file): Step => ({
      name: `files ${file.path}`,
      command: `write ${file.path}`,
      argv: shell('mkdir -p "$(dirname "$1")" && cat > "$1"', [file.path]),
      stdin: file.content,
      env,
    }),
  );
  const setup = recipe.setup.map(
    ({ run, secrets }, at): Step => ({
      name: `setup[${at}]`,
      command: run,
      argv: ['/bin/bash', '-c', run],
      ...(secrets === undefined ? {} : { secrets }),
      env,
    }),
  );
  return [...installs, ...files, ...setup];
}

function buildEnvironment(registries: Registries): Record<string, string> {
  const cache = '/home/agent/.cache';
  return {
    ...layerEnvironment,
    PREFIX: layerPath,
    CI: 'true',
    npm_config_cache: `${cache}/npm`,
    npm_config_audit: 'false',
    npm_config_fund: 'false',
    npm_config_update_notifier: 'false',
    // Its own patience, of minutes, is for people who watch.
    npm_config_fetch_retry_mintimeout: '1000',
    npm_config_fetch_retry_maxtimeout: '5000',
    npm_config_omit_lockfile_registry_resolved: 'true',
    PIP_DISABLE_PIP_VERSION_CHECK: '1',
    PIP_NO_INPUT: '1',
    CARGO_HOME: `${cache}/cargo`,
    GOPATH: `${cache}/go`,
    GOBIN: `${layerPath}/go/bin`,
    ...(registries.npm === undefined ? {} : { npm_config_registry: registries.npm }),
    ...(registries.pip === undefined ? {} : { PIP_INDEX_URL: registries.pip }),
    ...(registries.go === undefined ? {} : { GOPROXY: registries.go }),
  };
}

type Command = Omit<Step, 'env'>;
type Named = (program: string, text: string, argv: string[], stdin?: string) => Command;

/** Goes with the build, after it was read. */
export const pipReport = '/home/agent/pip-report.json';

function installSteps(manager: Manager, specs: string[], lock: Lock | null): Command[] {
  const locked = (lock?.packages ?? []).filter((one) => one.manager === manager);
  const named = (program: string, text: string, argv: string[], stdin?: string): Command => ({
    name: manager,
    command: `${program} ${text}`,
    argv: shell(
      `command -v ${program} >/dev/null || { echo "${program} is not installed on this base" >&2; exit 127; }
exec "$@"`,
      argv,
    ),
    ...(stdin === undefined ? {} : { stdin }),
  });
  const words = specs.join(' ');
  switch (manager) {
    case 'npm':
      return npmSteps(specs, lock, named);
    case 'pip':
      return [pipStep(specs, locked, named)];
    case 'cargo':
      return [
        named('cargo', `install ${words}`, [
          'cargo',
          'install',
          '--root',
          `${layerPath}/cargo`,
          '--locked',
          '--',
          ...exact(locked, specs, '@'),
        ]),
      ];
    case 'gem':
      return [
        named('gem', `install ${words}`, [
          ...['gem', 'install', '--no-document', '--install-dir', `${layerPath}/gem`],
          ...['--bindir', `${layerPath}/gem/bin`, '--', ...exact(locked, specs, ':')],
        ]),
      ];
    case 'go':
      return specs.map((spec) => named('go', `install ${spec}`, ['go', 'install', '--', spec]));
    case 'apt':
      return [];
  }
}

function exact(locked: Lock['packages'], specs: string[], sign: string): string[] {
  return locked.length > 0 ? locked.map(({ name, version }) => `${name}${sign}${version}`) : specs;
}

/** No bytecode, and a report outside the layer: both name moments, and the same packages are to be the same layer. */
function pipStep(specs: string[], locked: Lock['packages'], named: Named): Command {
  const argv = [
    ...['python3', '-m', 'pip', 'install', '--no-cache-dir', '--no-compile'],
    ...['--target', `${layerPath}/python`, '--report', pipReport],
  ];
  const isWhole = locked.length > 0 && locked.every(({ hash }) => hash !== null);
  if (!isWhole) return named('python3', `-m pip install ${specs.join(' ')}`, [...argv, '--', ...specs]);
  const lines = locked.map(({ name, version, hash }) => `${name}==${version} --hash=${hash}\n`);
  const exactly = ['--no-deps', '--require-hashes', '-r', '/dev/stdin'];
  return named('python3', '-m pip install, as locked', [...argv, ...exactly], lines.join(''));
}

/** A project of its own, not a global install: only a project has a lock with hashes. */
function npmSteps(specs: string[], lock: Lock | null, named: Named): Command[] {
  const folder = `${layerPath}/npm`;
  const names = ['package.json', 'package-lock.json'];
  const files = names.flatMap((name) => {
    const text = lock?.files[`npm/${name}`];
    return text === undefined ? [] : [{ name, text }];
  });
  const isLocked = files.length === names.length;
  const write = (name: string, text: string): Command => ({
    name: 'npm',
    command: `write npm/${name}`,
    argv: shell('mkdir -p "$(dirname "$1")" && cat > "$1"', [`${folder}/${name}`]),
    stdin: text,
  });
  if (isLocked)
    return [
      ...files.map(({ name, text }) => write(name, text)),
      named('npm', 'ci', ['npm', 'ci', '--prefix', folder]),
    ];
  return [
    write('package.json', '{ "name": "environment", "private": true }\n'),
    named('npm', `install ${specs.join(' ')}`, [
      ...['npm', 'install', '--save-exact', '--prefix', folder, '--', ...specs],
    ]),
  ];
}

function shell(script: string, args: string[]): string[] {
  return ['/bin/sh', '-c', script, 'sh', ...args];
}
