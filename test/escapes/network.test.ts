// The captured network of real sandboxes (S2): what reaches the gateway, what must not work, and what becomes of it
// when the gateway, the host or the sandbox dies. Numbers in brackets are rows of the table of escape attempts.
import { execFile, execFileSync, spawn } from 'node:child_process';
import {
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { namespaceAnswers, namespaceCaptured } from '../../attack/rows/namespace.ts';
import type { SandboxSpec } from '../../src/sandbox/executor.ts';
import { findPrograms } from '../../src/sandbox/host/programs.ts';
import { CapturePeer } from '../peers/capture-peer.ts';
import {
  answers,
  eventually,
  isAlive,
  isGvisor,
  joined,
  processesNamed,
  Rig,
  sandboxesOf,
  specOf,
  unrefused,
} from './rig.ts';

const PEM = (name: string): string => `-----BEGIN CERTIFICATE-----\n${name}\n-----END CERTIFICATE-----`;
const programs = findPrograms();
const probes = path.resolve(import.meta.dirname, '../../attack/probes');
const isRoot = process.getuid?.() === 0;

/** Not by name alone: other hosts of this machine have theirs. */
function holdersOf(host: number): number[] {
  return processesNamed('netprep').filter((pid) => {
    const [, parent] = /\) \S (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? [];
    return Number(parent) === host;
  });
}

const network = (ticket: string, name = 'first'): Partial<SandboxSpec> => ({
  network: { kind: 'gateway', ticket, authorityPem: PEM(name) },
});

let folder: string;
let peer: CapturePeer;
let rig: Rig;
let onHost: Server;
const said = new Map<string, string>();

const dial = (to: string): string[] => ['bash', '-c', `exec 3<>/dev/tcp/${to} && cat <&3`];

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'scriptorium-network-'));
  peer = new CapturePeer(path.join(folder, 'gateway'));
  await peer.start({ 'ticket-a': 'a', 'ticket-b': 'b' });
  rig = await Rig.start({ gatewayDir: peer.folder });
  await rig.create('a', network('ticket-a'));
  const probe = path.join(folder, 'probe');
  execFileSync('cc', ['-O1', '-static', '-o', probe, path.join(probes, 'network.c')]);
  const edits = [{ path: '/workspace/probe', content: readFileSync(probe), mode: 0o755 }];
  unrefused(await rig.client.applyEdits({ session: 'a', fence: 1, callId: 'probe', edits }));
  onHost = createServer((socket) => socket.end('the host'));
  await new Promise<void>((resolve) => onHost.listen(0, '127.0.0.1', resolve));
  const { stdout } = await rig.run('a', ['./probe', String((onHost.address() as { port: number }).port)]);
  for (const line of stdout.trim().split('\n')) said.set(...(line.split('=') as [string, string]));
}, 60_000);

afterAll(async () => {
  const holders = holdersOf((await rig.client.hello()).pid);
  await rig.close();
  await peer.stop();
  onHost.close();
  expect(holders.length).toBeGreaterThan(0);
  expect(holders.filter(isAlive)).toEqual([]);
  rmSync(folder, { recursive: true, force: true });
});

describe('what reaches the gateway', () => {
  it('is a connection to any address and port, with that address and port', async () => {
    const ran = await rig.run('a', dial('93.184.216.34/8443'));
    expect(ran.stdout).toBe('a at 93.184.216.34:8443\n');
  });

  it('is a query to the one name server of resolv.conf', async () => {
    const script = `const u = require('dgram').createSocket('udp4');
      u.on('message', (m) => { console.log(String(m)); u.close(); }); u.send('name?', 53, '127.0.0.1')`;
    const ran = await rig.sh('a', `cat /etc/resolv.conf; node -e "${script}"`);
    expect(ran.stdout).toBe('nameserver 127.0.0.1\nheard name?\n');
  });

  it('is what a plain program asks for by name, without a variable that names a proxy', async () => {
    expect((await rig.run('a', dial('files.example.test/8443'))).stdout).toBe('a at 198.18.0.1:8443\n');
    expect((await rig.sh('a', 'env | grep -i proxy')).stdout).toBe('');
  });

  it('is not what sandboxes say to themselves: local servers work, on IPv4 and IPv6', async () => {
    const script = `const { createServer, connect } = require('net');
      const s = createServer((c) => c.end('local ')).listen(8080, '::', () => {
        for (const host of ['127.0.0.1', '::1'])
          connect(8080, host).on('data', (d) => process.stdout.write(d)).on('close', () => s.close());
      })`;
    expect((await rig.run('a', ['node', '-e', script])).stdout).toBe('local local ');
    expect(peer.arrived.join()).not.toContain(':8080');
  });

  it('never a listener of another session: an address taken inside captures nothing', async () => {
    const script = `const { createServer, connect } = require('net');
      const s = createServer((c) => c.end('mine')).listen(4444, '1.2.3.4', () =>
        connect(4444, '1.2.3.4').on('data', (d) => { console.log(String(d)); s.close(); }))`;
    expect((await rig.run('a', ['node', '-e', script])).stdout.trim()).toBe('a at 1.2.3.4:4444');
  });

  it('is trusted: the authority is in the bundle, in its own file, and in every variable', async () => {
    const ran = await rig.sh(
      'a',
      'for f in $SSL_CERT_FILE $CURL_CA_BUNDLE $GIT_SSL_CAINFO $REQUESTS_CA_BUNDLE $PIP_CERT $AWS_CA_BUNDLE ' +
        '$NODE_EXTRA_CA_CERTS $DENO_CERT; do grep -c first $f; done; ' +
        'grep -c BEGIN /etc/ssl/certs/ca-certificates.crt; echo x > /etc/ssl/certs/ca-certificates.crt; ' +
        'echo x > /opt/scriptorium/authority.pem',
    );
    const lines = ran.stdout.trim().split('\n');
    expect(lines.slice(0, 8)).toEqual(Array(8).fill('1'));
    expect(Number(lines[8])).toBeGreaterThan(1);
    expect(ran.stderr.match(/Read-only|Permission denied/g)).toHaveLength(2);
  });
});

const rows = Object.entries({ ...namespaceAnswers, done: namespaceCaptured }).flatMap(([answer, names]) =>
  names.map((name) => [name, answer] as const),
);

/** gVisor's kernel says some of it in other words; options that it does not know it takes, and does nothing. */
const gvisorAnswers: Record<string, string> = {
  ...{ 'udp.lite': 'EAFNOSUPPORT', 'change.lo-down': 'ENOTTY', 'change.sysctl': 'ENOENT' },
  ...{ 'change.route-remove': 'EACCES', 'change.route-add': 'EACCES', 'change.rule': 'EACCES' },
  ...{ 'change.link': 'EACCES', 'change.transparent': 'done', 'change.mark': 'done' },
};

describe('what the namespace must refuse', () => {
  it.each(rows)('%s answers %s', (name, answer) => {
    expect(said.get(name)).toBe((isGvisor ? gvisorAnswers[name] : undefined) ?? answer);
  });

  it('has tried nothing that this table does not judge', () => {
    expect([...said.keys()].filter((name) => !rows.some(([judged]) => judged === name))).toEqual([]);
  });

  it('has let no other destination through than those', () => {
    expect(peer.arrived).toEqual(
      expect.arrayContaining(['a 1.2.3.4:5678', 'a 169.254.169.254:80', 'a 1.2.3.4:5678']),
    );
    expect(peer.arrived.join()).not.toContain('15001');
  });

  it('a query from a spoofed address gets no answer and does no harm', async () => {
    const ran = await rig.run('a', ['./probe', 'spoof']);
    expect(ran.stdout).toContain('spoof.answers=0');
    expect((await rig.run('a', dial('1.2.3.4/1'))).stdout).toBe('a at 1.2.3.4:1\n');
  });
});

describe('a ticket', () => {
  it('that the gateway does not know is refused, and no sandbox is left', async () => {
    const refusal = await rig.client.createSandbox(specOf('bad', network('guessed')));
    expect(refusal).toMatchObject({
      refused: 'isolation_unavailable',
      message: 'the gateway refused the ticket: unknown ticket',
    });
    expect(await rig.client.startProcess(rig.start('bad', ['true']))).toMatchObject({
      refused: 'no_sandbox',
    });
  });

  it('brings nobody into the network of another session', async () => {
    await rig.create('b', network('ticket-b'));
    expect((await rig.run('b', dial('1.2.3.4/9'))).stdout).toBe('b at 1.2.3.4:9\n');
    expect((await rig.run('a', dial('1.2.3.4/9'))).stdout).toBe('a at 1.2.3.4:9\n');
    await rig.client.destroySandbox({ session: 'b', fence: 1, removeDisk: true });
    await eventually('its sockets are closed', () => !peer.sessions.has('b'));
  });

  it('does not give a network to a sandbox that runs without one, nor take one away', async () => {
    await rig.create('sealed');
    expect(await rig.client.createSandbox(specOf('sealed', network('ticket-b')))).toMatchObject({
      refused: 'isolation_unavailable',
    });
    expect(await rig.client.createSandbox(specOf('a'))).toMatchObject({ refused: 'isolation_unavailable' });
    expect((await rig.run('sealed', dial('1.2.3.4/9'))).stderr).toMatch(
      /Network is unreachable|No route to host/,
    );
    await rig.client.destroySandbox({ session: 'sealed', fence: 1, removeDisk: true });
  });
});

describe('what anybody on the machine says to the relay', () => {
  it('brings nothing in and does no harm, until it is a known ticket with the two sockets', async () => {
    const garbage = path.join(folder, 'relay-probe');
    execFileSync('cc', ['-O1', '-static', '-o', garbage, path.join(import.meta.dirname, 'relay-probe.c')]);
    execFileSync('chmod', ['0755', folder]);
    peer.tickets.set('ticket-g', 'g');
    const relay = peer.relayPid;
    const descriptors = (): number => readdirSync(`/proc/${relay}/fd`).length;
    const before = descriptors();
    const asNobody = isRoot ? ['--reuid', '65533', '--regid', '65533', '--clear-groups'] : ['--nnp'];
    const { stdout } = await promisify(execFile)('setpriv', [...asNobody, garbage, peer.folder, 'ticket-g']);
    const notSockets = 'no not the sockets of a capture namespace';
    expect(
      Object.fromEntries(
        stdout
          .trim()
          .split('\n')
          .map((line) => line.split('=')),
      ),
    ).toEqual({
      ...{ empty: 'closed', long: 'no not a ticket', control: 'no not a ticket', nul: 'no not a ticket' },
      ...{ 'no-sockets': notSockets, 'one-socket': notSockets, 'many-sockets': 'no not a ticket' },
      ...{ pipes: notSockets, 'unix-sockets': notSockets, swapped: notSockets, six: notSockets },
      ...{ 'not-listening': notSockets, guessed: 'no unknown ticket' },
      // One message per connection; who is silent gives way.
      ...{ good: 'ok', second: 'closed', silent: 'closed' },
    });
    await eventually('all of it is closed', () => !peer.sessions.has('g') && descriptors() === before);
    expect(peer.relayPid).toBe(relay);
    expect((await rig.run('a', dial('1.2.3.4/3'))).stdout).toBe('a at 1.2.3.4:3\n');
  });
});

describe('when the gateway dies', () => {
  it('a process that lives on reaches the next one, after another ticket was presented', async () => {
    const loop = rig.start('a', [
      'bash',
      '-c',
      'until exec 3<>/dev/tcp/1.2.3.4/77 && grep -q a <&3 && [ -e go ]; do sleep 0.05; done; echo through',
    ]);
    unrefused(await rig.client.startProcess({ ...loop, waitMs: 0 }));
    await eventually('it is connected', () => peer.arrived.includes('a 1.2.3.4:77'));
    await peer.stop();
    await peer.start({ 'ticket-a2': 'a' });
    const info = unrefused(await rig.client.createSandbox(specOf('a', network('ticket-a2', 'second'))));
    expect(info).toMatchObject({ reused: true, network: 'gateway' });
    await rig.sh('a', 'touch go');
    expect((await rig.readAll('a', loop.callId)).stdout).toBe('through\n');
    expect((await rig.sh('a', 'grep -c second $SSL_CERT_FILE; grep -c first $SSL_CERT_FILE')).stdout).toBe(
      '1\n0\n',
    );
  });

  it('a stopped sandbox starts again with the last ticket, and asks for another where that is worth nothing', async () => {
    const quick = await Rig.start({ gatewayDir: peer.folder, idleMs: 100 });
    peer.tickets.set('ticket-idle', 'idle');
    await quick.create('idle', network('ticket-idle'));
    const isStopped = async (): Promise<boolean> => (await quick.client.hello()).sandboxes === 0;
    await eventually('it is stopped', isStopped);
    expect((await quick.run('idle', dial('1.2.3.4/5'))).stdout).toBe('idle at 1.2.3.4:5\n');
    await eventually('it is stopped again', isStopped);
    peer.tickets.delete('ticket-idle');
    expect(await quick.client.startProcess(quick.start('idle', ['true']))).toMatchObject({
      refused: 'no_sandbox',
      message: 'the gateway refused the ticket: unknown ticket',
    });
    await quick.close();
  });
});

describe('where it cannot be had', () => {
  it('a host without a gateway refuses, and says what to do (S4)', async () => {
    const without = await Rig.start();
    expect(await without.client.createSandbox(specOf('s', network('ticket-a')))).toMatchObject({
      refused: 'isolation_unavailable',
      message: expect.stringContaining('--gateway-dir'),
    });
    await without.close();
  });

  it('a sandbox without isolation gets none', async () => {
    const open = await Rig.start({ allowUnisolated: true, gatewayDir: peer.folder });
    expect(
      await open.client.createSandbox(specOf('s', { isolation: 'none', ...network('ticket-a2') })),
    ).toMatchObject({ refused: 'isolation_unavailable' });
    await open.close();
  });
});

/** Inside gVisor the host's namespaces have no names; the newest of its runscs is the one that was just made. */
function namespaceOfRunsc(hostPid: number): string {
  return readlinkSync(`/proc/${Math.max(...sandboxesOf(hostPid))}/ns/net`);
}

describe('when its holder is killed', () => {
  it('the sandbox ends, and says why to whoever waits for what ran in it', async () => {
    peer.tickets.set('ticket-h', 'h');
    const { pid } = await rig.client.hello();
    await rig.create('h', network('ticket-h'));
    const call = rig.start('h', ['sleep', '60'], { waitMs: 0 });
    unrefused(await rig.client.startProcess(call));
    const outside = isGvisor ? namespaceOfRunsc(pid) : null;
    const inside = outside ?? (await rig.sh('h', 'readlink /proc/self/ns/net')).stdout.trim();
    const holder = holdersOf(pid).find((one) => readlinkSync(`/proc/${one}/ns/net`) === inside);
    process.kill(holder as number, 'SIGKILL');
    const ran = await rig.readAll('h', call.callId);
    expect(ran.process).toMatchObject({
      state: 'lost',
      reason: expect.stringContaining('capture namespace'),
    });
    await eventually('its sockets are closed', () => !peer.sessions.has('h'));
    await rig.client.destroySandbox({ session: 'h', fence: 1, removeDisk: true });
  });
});

describe('when the host is killed', () => {
  it('no holder, no socket and no sandbox is left (S5)', async () => {
    peer.tickets.set('ticket-k', 'k');
    const doomed = await Rig.start({ gatewayDir: peer.folder });
    await doomed.create('k', network('ticket-k'));
    expect(peer.sessions.has('k')).toBe(true);
    const holders = holdersOf((await doomed.client.hello()).pid);
    expect(holders.length).toBeGreaterThan(0);
    await doomed.killHost();
    await eventually('its sockets are closed', () => !peer.sessions.has('k'));
    await eventually('its holders are gone', () => !holders.some(isAlive));
    await doomed.reach();
    await doomed.close();
  });
});

describe.skipIf(!isRoot)('without root', () => {
  it('the same network is had by a plain user', async () => {
    const root = mkdtempSync(path.join(tmpdir(), 'scriptorium-user-network-'));
    const stateDir = path.join(root, 'state');
    mkdirSync(stateDir);
    for (const place of [root, stateDir]) chownSync(place, 65_533, 65_533);
    // The clone may lie where that user cannot go, so it runs from a copy.
    cpSync(path.resolve(import.meta.dirname, '../..', 'src'), path.join(root, 'src'), { recursive: true });
    cpSync(path.dirname(programs.launch), path.join(root, 'native/build'), { recursive: true });
    cpSync(process.execPath, path.join(root, 'node'));
    execFileSync('chown', ['-R', '65533:65533', root]);
    // A gateway of that user, below a folder that it may enter.
    execFileSync('chmod', ['0755', folder]);
    peer.tickets.set('ticket-u', 'u');
    const main = [path.join(root, 'src/sandbox/host/main.ts'), '--state-dir', stateDir];
    const asUser = ['--reuid', '65533', '--regid', '65533', '--clear-groups', path.join(root, 'node')];
    const host = spawn('setpriv', [...asUser, ...main, '--gateway-dir', peer.folder], { stdio: 'ignore' });
    await eventually('it answers', () => answers(stateDir));
    const theirs = await Rig.start({ stateDir });
    expect(await theirs.create('u', network('ticket-u'))).toMatchObject({ network: 'gateway', ownUid: null });
    expect((await theirs.run('u', dial('1.2.3.4/5678'))).stdout).toBe('u at 1.2.3.4:5678\n');
    const edits = [
      { path: '/workspace/probe', content: readFileSync(path.join(folder, 'probe')), mode: 0o755 },
    ];
    unrefused(await theirs.client.applyEdits({ session: 'u', fence: 1, callId: 'probe', edits }));
    const ran = joined(unrefused(await theirs.client.startProcess(theirs.start('u', ['./probe', '1']))));
    const found = Object.fromEntries(
      ran.stdout
        .trim()
        .split('\n')
        .map((line) => line.split('=')),
    );
    expect(found).toEqual({ ...Object.fromEntries(said), 'raw.icmp': 'EPERM' });
    await theirs.close();
    host.kill('SIGKILL');
    rmSync(root, { recursive: true });
  });
});
