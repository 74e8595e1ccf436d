/**
 * A devcontainer.json as a config of an environment: what can be honoured safely, and by name what can not. Pure.
 *
 * - Nothing of it ever runs on the machine of whoever reads it: `initializeCommand` is refused.
 * - What would change what the file means is refused; what is only comfort is left out, and said.
 */
import type { JsonObject } from '../../protocol/json.ts';

export type Devcontainer =
  | { ok: true; name: string | null; config: JsonObject; notes: string[] }
  /** One line a member that stands in the way. */
  | { ok: false; refused: string[] };

type Draft = {
  name: string | null;
  env: Record<string, string>;
  setup: { run: string }[];
  notes: string[];
  refused: string[];
};

/** Images that have little more than what the base has; any other one has what would be missed. */
const plainImages =
  /^(mcr\.microsoft\.com\/(vscode\/)?devcontainers\/(base|javascript-node|typescript-node)|(docker\.io\/)?(library\/)?(debian|ubuntu|node|buildpack-deps))([:@].*)?$/;

const comfort = new Map(
  Object.entries({
    forwardPorts: 'no port of a sandbox is forwarded',
    portsAttributes: 'no port of a sandbox is forwarded',
    otherPortsAttributes: 'no port of a sandbox is forwarded',
    customizations: 'editors are not started',
    hostRequirements: 'limits are the environment’s own',
    shutdownAction: 'sandboxes sleep and wake by themselves',
    overrideCommand: 'there is no command of an image',
    userEnvProbe: 'no login shell is asked',
    waitFor: 'setup is always waited for',
    updateRemoteUserUID: 'every session has a user of its own',
    init: 'every sandbox has an init process',
    secrets: 'secrets are in vaults',
  }),
);

const dangerous = new Map(
  Object.entries({
    initializeCommand: 'it would run on your own machine',
    privileged: 'no sandbox is',
    capAdd: 'no sandbox has capabilities',
    securityOpt: 'the sandbox is as tight as it is',
    runArgs: 'there is no container runtime to give them to',
    mounts: 'nothing of the machine is mounted for a repository',
    workspaceMount: 'the repository is laid out by the session',
    appPort: 'no port of a sandbox is published',
    build: 'no Dockerfile is built; put its steps into setup commands',
    dockerFile: 'no Dockerfile is built; put its steps into setup commands',
    dockerComposeFile: 'services beside a sandbox are not started',
    postStartCommand: 'nothing is run at each start',
    postAttachCommand: 'nobody attaches',
  }),
);

const lifecycle = ['onCreateCommand', 'updateContentCommand', 'postCreateCommand'] as const;

/** `text`: JSON with comments and trailing commas, as the format allows. */
export function readDevcontainer(text: string): Devcontainer {
  let file: unknown;
  try {
    file = JSON.parse(withoutComments(text));
  } catch (error) {
    return { ok: false, refused: [`the file is no JSON: ${(error as Error).message}`] };
  }
  if (typeof file !== 'object' || file === null || Array.isArray(file))
    return { ok: false, refused: ['the file is no JSON object'] };
  const members = file as Record<string, unknown>;
  const draft: Draft = { name: null, env: {}, setup: [], notes: [], refused: [] };
  for (const [name, value] of Object.entries(members)) take(draft, name, value);
  // In the order in which the format runs them, whatever the order of the file.
  for (const name of lifecycle) takeCommand(draft, name, members[name]);
  if (draft.refused.length > 0) return { ok: false, refused: draft.refused };
  if (draft.setup.length > 0)
    draft.notes.push(
      'setup commands run once for all sessions, in /opt/env, before there is a repository: those that need it will fail',
    );
  const { env, setup, notes, name } = draft;
  const config: JsonObject = {
    type: 'cloud',
    ...(setup.length > 0 ? { setup } : {}),
    ...(Object.keys(env).length > 0 ? { env } : {}),
  };
  return { ok: true, name, config, notes };
}

function take(draft: Draft, name: string, value: unknown): void {
  const left = comfort.get(name);
  const why = dangerous.get(name);
  if (name === '$schema' || (lifecycle as readonly string[]).includes(name)) return;
  if (left !== undefined) draft.notes.push(`${name} is left out: ${left}`);
  else if (why === undefined) takeOther(draft, name, value);
  else if (!isNothing(value)) draft.refused.push(`${name}: ${why}`);
}

function takeOther(draft: Draft, name: string, value: unknown): void {
  if (name === 'name') draft.name = typeof value === 'string' ? value : null;
  else if (name === 'image') takeImage(draft, value);
  else if (name === 'features' || name === 'overrideFeatureInstallOrder') takeFeatures(draft, name, value);
  else if (name === 'containerEnv' || name === 'remoteEnv') takeEnv(draft, name, value);
  else if (name === 'containerUser' || name === 'remoteUser') takeUser(draft, name, value);
  else if (name === 'workspaceFolder')
    draft.notes.push('workspaceFolder is left out: repositories are below /workspace');
  else draft.refused.push(`${name}: is not known`);
}

function takeFeatures(draft: Draft, name: string, value: unknown): void {
  if (isNothing(value)) return;
  const named = Array.isArray(value) ? value.map(String) : Object.keys(value as object);
  draft.refused.push(
    `${name}: features are not installed (${named.join(', ')}); use packages or setup commands`,
  );
}

function takeUser(draft: Draft, name: string, value: unknown): void {
  if (value === 'root') draft.refused.push(`${name}: programs of a sandbox are never root`);
  else draft.notes.push(`${name} is left out: the user of a sandbox is "agent"`);
}

function takeImage(draft: Draft, value: unknown): void {
  if (typeof value === 'string' && plainImages.test(value))
    draft.notes.push(`image ${value} is not used: the base is the system of the host`);
  else
    draft.refused.push(`image: ${JSON.stringify(value)} cannot be had; the base is the system of the host`);
}

function takeEnv(draft: Draft, name: string, value: unknown): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    draft.refused.push(`${name}: must be an object`);
    return;
  }
  for (const [key, text] of Object.entries(value)) {
    // `null` takes a variable away that nobody has set.
    if (text === null) continue;
    const filled =
      typeof text === 'string' ? text.replaceAll('${containerWorkspaceFolder}', '/workspace') : null;
    if (filled === null) draft.refused.push(`${name}.${key}: must be a string`);
    else if (/\$\{[A-Za-z]+(:[^}]*)?\}/.test(filled))
      draft.refused.push(
        `${name}.${key}: ${filled} refers to what is not there; values of yours belong into a vault`,
      );
    else draft.env[key] = filled;
  }
}

function takeCommand(draft: Draft, name: string, value: unknown): void {
  if (isNothing(value)) return;
  if (typeof value === 'string') draft.setup.push({ run: value });
  else if (isWords(value)) draft.setup.push({ run: value.map(quoted).join(' ') });
  else if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    draft.notes.push(`${name}: its commands run one after the other, not at once`);
    for (const [key, one] of Object.entries(value)) takeCommand(draft, `${name}.${key}`, one);
  } else draft.refused.push(`${name}: must be a command`);
}

function isWords(value: unknown): value is string[] {
  return Array.isArray(value) && value.length > 0 && value.every((word) => typeof word === 'string');
}

function quoted(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

function isNothing(value: unknown): boolean {
  if (value === undefined || value === null || value === false || value === '') return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

/** Comments become spaces, a comma before a closing bracket goes; what is in strings stays. */
function withoutComments(text: string): string {
  const bare = text.replace(/"(?:\\.|[^"\\])*"|\/\/[^\n]*|\/\*[\s\S]*?\*\//g, (found) =>
    found.startsWith('"') ? found : ' ',
  );
  return bare.replace(/"(?:\\.|[^"\\])*"|,(?=\s*[\]}])/g, (found) => (found === ',' ? '' : found));
}
