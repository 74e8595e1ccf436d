import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  cgroupsOf,
  eventually,
  isAlive,
  isGvisor,
  joined,
  processesWith,
  Rig,
  sandboxesOf,
  specOf,
  unrefused,
} from '../../../test/escapes/rig.ts';
import { isRefusal } from '../executor.ts';
import { findHost } from './adopt.ts';

const exited = (exitCode: number) => expect.objectContaining({ state: 'exited', exitCode });

describe('a host', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start();
    await rig.create('s1', { env: { FROM_SPEC: 'yes' } });
  });
  afterAll(() => rig.close());

  it('runs a command with its streams apart, its environment and its exit code', async () => {
    const ran = await rig.sh('s1', 'echo out; echo err >&2; echo ctl >&9; echo $FROM_SPEC $MINE; exit 3', {
      env: { MINE: 'too' },
    });
    expect(ran).toMatchObject({
      stdout: 'out\nyes too\n',
      stderr: 'err\n',
      control: 'ctl\n',
      process: exited(3),
    });
  });

  it('merges stderr into stdout in the order written when asked', async () => {
    const ran = await rig.sh('s1', 'echo 1; echo 2 >&2; echo 3', { mergeStderr: true });
    expect(ran).toMatchObject({ stdout: '1\n2\n3\n', stderr: '' });
  });

  it('gives stdin to its last byte, and none where there is none', async () => {
    const stdin = Buffer.alloc(3 << 20, 'x');
    expect((await rig.sh('s1', 'wc -c', { stdin })).stdout.trim()).toBe(String(stdin.length));
    expect((await rig.sh('s1', 'wc -c')).stdout.trim()).toBe('0');
    expect((await rig.sh('s1', 'wc -c', { stdin: new Uint8Array() })).stdout.trim()).toBe('0');
  });

  it('says 127 for a program that is not there and 126 for one that may not run', async () => {
    expect(await rig.run('s1', ['no-such-program'])).toMatchObject({ process: exited(127) });
    expect(await rig.run('s1', ['/etc/passwd'])).toMatchObject({ process: exited(126) });
    const lost = await rig.run('s1', ['true'], { cwd: '/nowhere' });
    expect(lost).toMatchObject({ process: exited(127), stderr: '/nowhere: No such file or directory\n' });
  });

  it('does not run a call a second time when it is asked again', async () => {
    const request = rig.start('s1', ['/bin/sh', '-c', 'echo once >> /workspace/count; echo done']);
    const both = await Promise.all([rig.client.startProcess(request), rig.client.startProcess(request)]);
    for (const read of both) expect(joined(unrefused(read)).stdout).toBe('done\n');
    expect((await rig.sh('s1', 'cat /workspace/count')).stdout).toBe('once\n');
    const other = await rig.client.startProcess({ ...request, argv: ['false'] });
    expect(other).toMatchObject({ refused: 'call_mismatch' });
  });

  it('ends a call at its time limit, with all it started', async () => {
    const ran = await rig.sh('s1', 'setsid sleep 987651 & sleep 987651', { timeoutMs: 300 });
    expect(ran.process).toMatchObject({ state: 'exited', endedBy: 'timeout', signal: 'SIGKILL' });
    await eventually(
      'no sleep is left',
      async () => (await rig.processesWith('s1', 'sleep\x00987651')).length === 0,
    );
  });

  it('terminates the whole tree, whatever left its group, its session or its parent', async () => {
    const script = `
      setsid sleep 987652 &
      nohup sleep 987652 >/dev/null 2>&1 &
      (setsid sh -c 'sleep 987652 & exec sleep 987652' &)
      perl -e 'use POSIX; exit if fork; POSIX::setsid(); exit if fork; exec "sleep", "987652"' &
      echo started; sleep 987652`;
    const request = rig.start('s1', ['/bin/sh', '-c', script], { waitMs: 0 });
    unrefused(await rig.client.startProcess(request));
    await eventually('all run', async () => (await rig.processesWith('s1', 'sleep\x00987652')).length === 6);
    expect(await rig.client.terminateProcess(request)).toEqual({});
    expect(await rig.processesWith('s1', 'sleep\x00987652')).toEqual([]);
    const status = await rig.client.callStatus(request);
    expect(status).toMatchObject({ kind: 'process', process: { state: 'exited', endedBy: 'terminate' } });
  });

  // From inside gVisor none of it lives long enough to be seen: gvisor.test.ts has its own.
  it.skipIf(isGvisor)('terminates a tree that forks as fast as it can', async () => {
    const bomb =
      'perl -e \'$0 = "runner987653"; for (;;) { my $p = fork; next unless defined $p; exit if $p }\'';
    const request = rig.start('s1', ['/bin/sh', '-c', `for i in 1 2 3; do ${bomb} & done; sleep 1000`], {
      waitMs: 0,
    });
    unrefused(await rig.client.startProcess(request));
    await eventually('it runs', async () => (await rig.processesNamed('s1', 'runner987653')).length > 0);
    expect(await rig.client.terminateProcess(request)).toEqual({});
    expect(await rig.processesNamed('s1', 'runner987653')).toEqual([]);
    expect((await rig.sh('s1', 'echo alive')).stdout).toBe('alive\n');
  });

  it('kills what a killed supervisor leaves behind', async () => {
    // The supervisor is the parent that a call sees; it has the call's own uid, so it can be killed.
    const ran = await rig.sh('s1', 'setsid sleep 987654 & sleep 0.1; kill -9 $PPID; sleep 987654');
    expect(ran.process).toMatchObject({ state: 'exited', signal: 'SIGKILL' });
    await eventually(
      'no sleep is left',
      async () => (await rig.processesWith('s1', 'sleep\x00987654')).length === 0,
    );
    expect((await rig.sh('s1', 'echo alive')).stdout).toBe('alive\n');
  });

  it('lets background processes go on after their call, neither blocked nor broken by their output', async () => {
    const request = rig.start('s1', [
      '/bin/sh',
      '-c',
      '(yes | head -c 3000000; sleep 1; touch /workspace/wrote) & echo up',
    ]);
    const ran = joined(unrefused(await rig.client.startProcess(request)));
    expect(ran.process).toEqual(exited(0));
    await eventually(
      'it wrote',
      async () =>
        (await rig.sh('s1', 'test -e wrote')).process.state === 'exited' &&
        !isRefusal(await rig.client.stat({ session: 's1', fence: 1, path: '/workspace/wrote' })),
    );
  });

  it('drops output beyond the cap and counts it, and the control stream still says its word', async () => {
    const ran = await rig.sh('s1', 'head -c 20000000 /dev/zero; echo end >&9', { maxOutputBytes: 100_000 });
    expect(ran.stdout.length).toBe(100_000);
    expect(ran.droppedBytes).toBe(20_000_000 - 100_000);
    expect(ran).toMatchObject({ control: 'end\n', process: exited(0) });
  });

  it('holds 50 MB of output without holding it in memory, and reads it back whole', async () => {
    const { pid } = await rig.client.hello();
    const request = rig.start('s1', ['/bin/sh', '-c', 'head -c 50000000 /dev/zero'], {
      maxOutputBytes: 60_000_000,
    });
    unrefused(await rig.client.startProcess(request));
    const all = await rig.readAll('s1', request.callId);
    expect(all.stdout.length).toBe(50_000_000);
    expect(all.process).toEqual(exited(0));
    expect(isAlive(pid)).toBe(true);
  });

  it('survives an endless flood until its time limit', async () => {
    const ran = await rig.sh('s1', 'yes', { maxOutputBytes: 10_000, timeoutMs: 500 });
    expect(ran).toMatchObject({ process: { endedBy: 'timeout' } });
    expect(ran.stdout.length).toBe(10_000);
  });

  it('serves a call while another one floods', async () => {
    const flood = rig.client.startProcess(
      rig.start('s1', ['yes'], { timeoutMs: 1000, maxOutputBytes: 1 << 28 }),
    );
    expect((await rig.sh('s1', 'echo through')).stdout).toBe('through\n');
    unrefused(await flood);
  });

  it('holds when more calls come at once than a sandbox can have', async () => {
    await rig.create('crowd', { limits: { ...specOf('x').limits, processes: 2000 } });
    const starts = Array.from({ length: 300 }, () => rig.start('crowd', ['sleep', '1000'], { waitMs: 0 }));
    await Promise.all(starts.map((start) => rig.client.startProcess(start)));
    const late = await rig.client.startProcess(rig.start('crowd', ['true']));
    expect(late).toMatchObject({ refused: 'too_large' });
    const states = await Promise.all(starts.map((start) => rig.client.callStatus(start)));
    const running = states.filter((status) => JSON.stringify(status).includes('running'));
    expect(running.length).toBe(200);
    await rig.client.destroySandbox({ session: 'crowd', fence: 1, removeDisk: true });
  });

  it('refuses what it cannot do with the word for it', async () => {
    const ref = { session: 'nobody', fence: 1 };
    expect(await rig.client.stat({ ...ref, path: '/workspace' })).toMatchObject({ refused: 'no_sandbox' });
    expect(await rig.client.callStatus({ ...ref, callId: 'x' })).toEqual({ kind: 'unknown' });
    expect(await rig.client.terminateProcess({ ...ref, session: 's1', callId: 'x' })).toMatchObject({
      refused: 'not_found',
    });
    expect(await rig.client.createSandbox(specOf('s2', { isolation: 'none' }))).toMatchObject({
      refused: 'isolation_unavailable',
      message: expect.stringContaining('--allow-unisolated'),
    });
  });

  it('puts uploads where the session can read and not write them', async () => {
    const put = (offset: number, data: string, name = 'in.txt') =>
      rig.client.putUpload({ session: 's1', fence: 1, name, offset, data: Buffer.from(data) });
    expect(await put(0, 'hello ')).toEqual({});
    expect(await put(6, 'world')).toEqual({});
    expect((await rig.sh('s1', 'cat /mnt/session/uploads/in.txt')).stdout).toBe('hello world');
    expect((await rig.sh('s1', 'touch /mnt/session/uploads/mine')).stderr).toMatch(
      /Read-only file system|Permission denied/,
    );
    await expect(put(0, 'x', '../journal')).rejects.toThrow('params.name must be');
    await expect(put(0, 'x', '..')).rejects.toThrow('params.name must be');
  });

  it('answers a wrong message with an error and goes on', async () => {
    const socket = connect(path.join(rig.stateDir, 'host.sock'));
    const answers: string[] = [];
    socket.on('data', (chunk) => answers.push(chunk.toString()));
    socket.write('not json\n{"id":1}\n{"id":2,"method":"no/such"}\n{"id":3,"method":"constructor"}\n');
    socket.write('{"id":4,"method":"sandbox/create","params":{"session":"../x","fence":1}}\n');
    await eventually('five answers', () => answers.join('').split('\n').length === 6);
    const codes = answers
      .join('')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).error.code);
    expect(codes).toEqual([-32700, -32700, -32601, -32601, -32602]);
    socket.destroy();
    expect((await rig.sh('s1', 'echo alive')).stdout).toBe('alive\n');
  });

  it('is the only one of its folder: a second one ends and leaves it alone', async () => {
    const main = path.join(import.meta.dirname, 'main.ts');
    const second = spawn(process.execPath, [main, '--state-dir', rig.stateDir], { stdio: 'ignore' });
    const code = await new Promise((resolve) => second.once('exit', resolve));
    expect(code).toBe(75);
    const found = await findHost(rig.stateDir);
    expect(await found?.hello()).toMatchObject({ pid: (await rig.client.hello()).pid });
    await found?.close();
  });

  it('removes all of a session with its disk, however the tree was made', async () => {
    await rig.create('gone');
    const deep = 'my $i = 0; while ($i++ < 3000) { mkdir "d"; chdir "d" or die }; open F, ">", "f"';
    await rig.sh('gone', `perl -e '${deep}'; mkdir closed; touch closed/x; chmod 000 closed; ln -s / root`);
    expect(await rig.client.destroySandbox({ session: 'gone', fence: 1, removeDisk: true })).toEqual({});
    expect(processesWith('sessions/gone')).toEqual([]);
    expect(readdirSync(path.join(rig.stateDir, 'sessions'))).not.toContain('gone');
    expect(readdirSync(path.join(rig.stateDir, 'trash'))).toEqual([]);
  });

  it('keeps the disk of a destroyed sandbox for the next one', async () => {
    await rig.create('kept');
    await rig.sh('kept', 'echo 1 > a; echo 2 > ~/b; echo 3 > /mnt/session/outputs/c; echo 4 > /tmp/d');
    await rig.client.destroySandbox({ session: 'kept', fence: 1, removeDisk: false });
    expect(await rig.client.startProcess(rig.start('kept', ['true']))).toMatchObject({
      refused: 'no_sandbox',
    });
    expect(await rig.create('kept')).toMatchObject({ reused: false });
    expect((await rig.sh('kept', 'cat a ~/b /mnt/session/outputs/c; ls /tmp')).stdout).toBe('1\n2\n3\n');
    expect(await rig.create('kept')).toMatchObject({ reused: true });
  });
});

describe('a host and its owners', () => {
  it('loses a running call with its sandbox, and says so', async () => {
    const rig = await Rig.start();
    await rig.create('s');
    const request = rig.start('s', ['sleep', '1000'], { waitMs: 0 });
    unrefused(await rig.client.startProcess(request));
    await rig.client.destroySandbox({ session: 's', fence: 1, removeDisk: false });
    await eventually('it is lost', async () =>
      JSON.stringify(await rig.client.callStatus(request)).includes('lost'),
    );
    await rig.close();
  });

  it('ends with everything it started once it had no owner for the grace time', async () => {
    const rig = await Rig.start({ ownerGraceMs: 100 });
    await rig.create('s');
    unrefused(await rig.client.startProcess(rig.start('s', ['sleep', '987655'], { waitMs: 0 })));
    const { pid } = await rig.client.hello();
    await eventually('it runs', async () => (await rig.processesWith('s', 'sleep\x00987655')).length === 1);
    await rig.client.close();
    await eventually('the host ends', () => !isAlive(pid));
    expect(processesWith('sleep\x00987655').filter(isAlive)).toEqual([]);
    expect(processesWith(rig.stateDir).filter(isAlive)).toEqual([]);
    expect(cgroupsOf(pid)).toEqual([]);
    rig.client = await rig.connect();
    await rig.close();
  });

  it('killed, leaves nothing alive; the next one refuses old fences and calls what ran lost', async () => {
    const rig = await Rig.start();
    await rig.create('s', { fence: 5 });
    const done = rig.start('s', ['echo', 'kept'], { fence: 5 });
    unrefused(await rig.client.startProcess(done));
    const running = rig.start('s', ['/bin/sh', '-c', 'echo part; sleep 987656'], { fence: 7, waitMs: 300 });
    unrefused(await rig.client.startProcess(running));
    const pid = await rig.killHost();
    const isClean = () =>
      processesWith(rig.stateDir).filter(isAlive).length === 0 && cgroupsOf(pid).length === 0;
    await eventually('its sandboxes, its lock and its cgroups go with it, without another host', isClean);
    expect(processesWith('sleep\x00987656').filter(isAlive)).toEqual([]);
    expect(await rig.reach()).not.toBe(pid);
    expect(await rig.client.callStatus({ ...running, fence: 6 })).toMatchObject({ refused: 'fenced' });
    expect(await rig.client.callStatus(running)).toMatchObject({ process: { state: 'lost' } });
    expect(await rig.client.startProcess(running)).toMatchObject({ process: { state: 'lost' } });
    expect((await rig.readAll('s', running.callId, 7)).stdout).toBe('part\n');
    expect((await rig.readAll('s', done.callId, 7)).stdout).toBe('kept\n');
    expect(await rig.client.startProcess(rig.start('s', ['true'], { fence: 7 }))).toMatchObject({
      refused: 'no_sandbox',
    });
    expect(cgroupsOf(pid)).toEqual([]);
    await rig.close();
  });

  it('stops an idle sandbox and starts it again when it is asked for, unless processes are left in it', async () => {
    const rig = await Rig.start({ idleMs: 100 });
    await rig.create('idle');
    await rig.create('busy');
    await rig.sh('busy', 'sleep 987657 >/dev/null 2>&1 &');
    const { pid } = await rig.client.hello();
    await eventually('the idle one stops', () => sandboxesOf(pid).length === 1);
    const isBusy = async () => (await rig.processesWith('busy', 'sleep\x00987657')).length === 1;
    await eventually('what was left in the other one runs', isBusy);
    expect((await rig.sh('idle', 'echo again')).stdout).toBe('again\n');
    await rig.close();
  });
});
