/**
 * Builds in a real sandbox of a real host, by commands that mean no good. No network is needed: what it lets through is
 * tested in test/environments.test.ts.
 */
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Limits } from '../executor.ts';
import { isRefusal } from '../executor.ts';
import { Fleet } from '../fleet/fleet.ts';
import { connectHost } from '../host/adopt.ts';
import type { HostClient } from '../host/client.ts';
import { type BuildFailure, type BuildParts, type Built, buildLayer } from './build.ts';
import type { Recipe } from './recipe.ts';

const mebi = 1 << 20;
const limits: Limits = {
  memoryBytes: 512 * mebi,
  processes: 128,
  openFiles: 1024,
  tmpBytes: 64 * mebi,
  fileBytes: 1024 * mebi,
  diskBytes: 300 * mebi,
};

let stateDir: string;
let host: HostClient;
let fleet: Fleet;
let parts: BuildParts;

beforeAll(async () => {
  stateDir = mkdtempSync(path.join(tmpdir(), 'scriptorium-layers-'));
  host = await connectHost({ stateDir });
  fleet = new Fleet();
  fleet.add(await host.hello(), host, { isOurs: true });
  const network = {
    open: async () => ({ network: { kind: 'none' as const }, secrets: {} }),
    denied: async () => [],
    close: async () => undefined,
  };
  parts = { executor: fleet, network, limits, registries: {}, nowMs: Date.now };
}, 60_000);

afterAll(async () => {
  await host.shutdownHost().catch(() => undefined);
  await fleet.close();
  rmSync(stateDir, { recursive: true, force: true });
});

function recipe(...setup: string[]): Recipe {
  return {
    base: 'host',
    packages: {},
    files: [],
    setup: setup.map((run) => ({ run })),
    architecture: process.arch,
  };
}

function build(...setup: string[]): Promise<Built | BuildFailure> {
  return buildLayer(parts, { recipe: recipe(...setup), host: null, lock: null });
}

async function built(...setup: string[]): Promise<Built> {
  const ended = await build(...setup);
  if ('failed' in ended) throw new Error(JSON.stringify(ended));
  return ended;
}

let sessions = 0;

/** What a session that has the layer sees. */
async function inSession(digest: string, command: string): Promise<string> {
  const session = `sesn_${++sessions}`;
  const made = await fleet.createSandbox({
    ...{ session, fence: 1, isolation: 'bubblewrap', limits, env: {}, layer: { digest } },
  });
  if (isRefusal(made)) throw new Error(made.message);
  const ran = await fleet.startProcess({
    ...{ session, fence: 1, callId: 'c', argv: ['/bin/sh', '-c', command], cwd: '/' },
    ...{ timeoutMs: 20_000, maxOutputBytes: 1 << 20, mergeStderr: true, waitMs: 20_000 },
  });
  if (isRefusal(ran)) throw new Error(ran.message);
  return ran.chunks.map(({ data }) => Buffer.from(data).toString()).join('');
}

function leftBuilds(): string[] {
  return readdirSync(path.join(stateDir, 'sessions')).filter((name) => name.startsWith('build_'));
}

it('links that lead out are links in the sandbox, never on the host, and the same content has the same name', async () => {
  const command =
    'ln -s / root; ln -s ../../../../../etc/shadow s; ln -s /etc/passwd p; ln -s loop loop; echo x > f';
  const one = await built(command);
  expect(await inSession(one.layer.digest, 'cat /opt/env/p /opt/env/s; ls -ld /opt/env/root')).not.toMatch(
    /root:[$*!]/,
  );
  expect((await built(`${command}; true`)).layer.digest).toBe(one.layer.digest);
  expect(leftBuilds()).toEqual([]);
});

it('sockets, pipes, setuid bits and closed folders do not come through', async () => {
  const { layer, notes } = await built(
    'cp /bin/true suid && chmod 6755 suid; mkfifo pipe; mknod disk b 8 0 2>/dev/null; mkdir shut && echo in > shut/f && chmod 0 shut/f shut; ' +
      'python3 -c "import socket; socket.socket(socket.AF_UNIX).bind(\'sock\')"',
  );
  const seen = await inSession(
    layer.digest,
    'cd /opt/env; stat -c "%a %n" *; cat shut/f; grep -o " /opt/env r[ow]" /proc/self/mountinfo',
  );
  expect(seen).toContain('555 suid');
  expect(seen).toContain('\nin\n');
  expect(seen).toContain(' /opt/env ro');
  expect(seen).not.toMatch(/pipe|disk|sock/);
  expect(notes.join()).toMatch(/pipe: .*sock: .*suid: /);
  const place = path.join(stateDir, 'images', layer.digest, 'layer');
  expect(statSync(path.join(place, 'suid')).mode & 0o6000).toBe(0);
});

it('a daemon that a command leaves writes nothing into the layer any more', async () => {
  const { layer } = await built(
    "setsid sh -c 'while :; do date +%s%N >> ticks; done' >/dev/null 2>&1 & sleep 0.3; echo done",
  );
  const size = () => inSession(layer.digest, 'wc -c < /opt/env/ticks');
  const before = await size();
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(await size()).toBe(before);
});

it('a build that fills the disk ends before the disk is full, and leaves nothing', async () => {
  const ended = await build('n=0; while :; do n=$((n+1)); head -c 20000000 /dev/zero > f$n || exit 1; done');
  expect(ended).toMatchObject({
    failed: 'command',
    step: 'setup[0]',
    message: expect.stringContaining('of the disk'),
  });
  expect(leftBuilds()).toEqual([]);
}, 60_000);

it('a name that is no UTF-8 and a file that is only a hole are refused by name, not by a crash', async () => {
  expect(await build("touch $'\\xff'")).toMatchObject({
    failed: 'content',
    message: expect.stringContaining('UTF-8'),
  });
  expect(
    await buildLayer(
      { ...parts, maxBytes: mebi },
      { recipe: recipe('truncate -s 900M hole'), host: null, lock: null },
    ),
  ).toMatchObject({
    failed: 'content',
    message: expect.stringContaining('/hole is larger'),
  });
});

it('a command that never ends is ended at its time, whatever it does against it', async () => {
  const ended = await buildLayer(
    { ...parts, stepMs: 700 },
    { recipe: recipe("trap '' TERM INT; while :; do :; done"), host: null, lock: null },
  );
  expect(ended).toMatchObject({ failed: 'command', message: expect.stringContaining('did not end within') });
});

it('two that build the same at once get the same layer, built once after all', async () => {
  const two = await Promise.all([build('sleep 0.5; echo twin > t'), build('sleep 0.5; echo twin > t')]);
  const digests = two.map((one) => ('failed' in one ? one.message : one.layer.digest));
  expect(digests[0]).toBe(digests[1]);
  expect(digests[0]).toMatch(/^[0-9a-f]{64}$/);
});

it('a layer that no session refers to is removed, one that is referred to stays, and a missing one is said', async () => {
  const { layer: held } = await built('echo held > f');
  const { layer: loose } = await built('echo loose > f');
  await inSession(held.digest, 'true');
  const { removed } = await fleet.removeUnusedLayers({ olderThanMs: 0 });
  expect(removed).toContain(loose.digest);
  expect(removed).not.toContain(held.digest);
  const refused = await fleet.createSandbox({
    ...{
      session: 'sesn_late',
      fence: 1,
      isolation: 'bubblewrap',
      limits,
      env: {},
      layer: { digest: loose.digest },
    },
  });
  expect(refused).toMatchObject({ refused: 'no_layer' });
});
