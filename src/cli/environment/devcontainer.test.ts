import { expect, it } from 'vitest';
import { environmentCreateParams } from '../../protocol/environments.ts';
import { readDevcontainer } from './devcontainer.ts';

function accepted(file: string | object) {
  const read = readDevcontainer(typeof file === 'string' ? file : JSON.stringify(file));
  if (!read.ok) throw new Error(read.refused.join('; '));
  return read;
}

it('an ordinary file becomes a config that the API takes, and says what it leaves out', () => {
  const read = accepted(`{
    // what everybody has
    "name": "web", /* and more */ "image": "mcr.microsoft.com/devcontainers/typescript-node:22",
    "containerEnv": { "A": "http://x//y", "HERE": "\${containerWorkspaceFolder}/a", },
    "postCreateCommand": ["echo", "it's"],
    "onCreateCommand": "echo first",
    "forwardPorts": [3000],
    "customizations": { "vscode": { "extensions": ["a.b"] } },
    "runArgs": [],
  }`);
  expect(read.name).toBe('web');
  expect(read.config).toEqual({
    type: 'cloud',
    env: { A: 'http://x//y', HERE: '/workspace/a' },
    setup: [{ run: 'echo first' }, { run: "echo 'it'\\''s'" }],
  });
  expect(read.notes.join('\n')).toMatch(/image .* is not used/);
  expect(read.notes.join('\n')).toContain('forwardPorts is left out');
  expect(read.notes.join('\n')).toContain('before there is a repository');
  expect(environmentCreateParams.safeParse({ name: 'web', config: read.config }).success).toBe(true);
});

it('commands of an object run in the order of the file', () => {
  const { config, notes } = accepted({ updateContentCommand: { a: 'x', b: ['y', 'z w'] } });
  expect(config.setup).toEqual([{ run: 'x' }, { run: "y 'z w'" }]);
  expect(notes.join()).toContain('one after the other');
});

it.each([
  [{ initializeCommand: 'rm -rf ~' }, 'initializeCommand: it would run on your own machine'],
  [{ privileged: true }, 'privileged'],
  [{ capAdd: ['SYS_PTRACE'] }, 'capAdd'],
  [{ runArgs: ['--network=host'] }, 'runArgs'],
  [{ mounts: ['source=/,target=/host,type=bind'] }, 'mounts'],
  [{ build: { dockerfile: 'Dockerfile' } }, 'build: no Dockerfile'],
  [{ dockerComposeFile: 'compose.yml' }, 'dockerComposeFile'],
  [{ features: { 'ghcr.io/devcontainers/features/go:1': {} } }, 'ghcr.io/devcontainers/features/go:1'],
  [{ image: 'evil.example/x' }, 'image: "evil.example/x" cannot be had'],
  [{ remoteUser: 'root' }, 'never root'],
  [{ containerEnv: { T: '${localEnv:TOKEN}' } }, 'containerEnv.T: ${localEnv:TOKEN}'],
  [{ postStartCommand: 'serve' }, 'postStartCommand'],
  [{ postCreateCommand: 7 }, 'postCreateCommand: must be a command'],
  [{ surprise: 1 }, 'surprise: is not known'],
  [{ constructor: 1 }, 'constructor: is not known'],
])('%j is refused by name, not passed over', (file, words) => {
  const read = readDevcontainer(JSON.stringify(file));
  expect(read).toEqual({ ok: false, refused: [expect.stringContaining(words)] });
});

it('what is no JSON is refused, and not half-read', () => {
  for (const text of ['', '[]', '{ "a": }', 'null'])
    expect(readDevcontainer(text)).toMatchObject({ ok: false });
});
