import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { MemoryExecutor } from '../../test/peers/memory-executor.ts';
import { textOf } from '../protocol/content.ts';
import type { CallStatus } from '../sandbox/executor.ts';
import { HostUnreachable, isRefusal } from '../sandbox/executor.ts';
import { bash, bashArgv } from './bash.ts';
import type { ToolContext, ToolOutcome } from './tool.ts';

const session = 'sesn_1';

function contextFor(executor: MemoryExecutor, more: Partial<ToolContext> = {}): ToolContext {
  const signal = new AbortController().signal;
  return { session, fence: 1, callId: 'call_1', cwd: '/workspace', executor, signal, ...more };
}

async function recover(input: Parameters<typeof bash.run>[0], context: ToolContext): Promise<ToolOutcome> {
  const { fence, callId, executor } = context;
  const status = await executor.callStatus({ session, fence, callId });
  if (isRefusal(status)) throw new Error(status.message);
  return (await bash.recover?.(input, context, status)) as ToolOutcome;
}

describe('a command', () => {
  it('gives its output, and the directory it ended in', async () => {
    const executor = MemoryExecutor.running(session);
    executor.script = (process) => process.write('hello\n').write('/workspace/src\n', 'control').exit();
    const outcome = await bash.run({ command: 'cd src' }, contextFor(executor));
    expect(outcome).toMatchObject({
      isError: false,
      cwd: '/workspace/src',
      content: [{ type: 'text', text: 'hello' }],
    });
    expect(outcome.details).toMatchObject({ exitCode: 0, outputBytes: 6 });
  });

  it('that says nothing still gives a text', async () => {
    const outcome = await bash.run({ command: 'true' }, contextFor(MemoryExecutor.running(session)));
    expect(textOf(outcome.content)).toBe('(no output)');
  });

  it('that fails is an error with its output and exit code', async () => {
    const executor = MemoryExecutor.running(session);
    executor.script = (process) => process.write('no such thing\n', 'stderr').exit({ exitCode: 3 });
    const outcome = await bash.run({ command: 'false' }, contextFor(executor));
    expect(outcome.isError).toBe(true);
    expect(textOf(outcome.content)).toBe('no such thing\n\n[exit code: 3]');
  });

  it.each([
    ['timeout' as const, { timeout_ms: 5_000 }, /did not end within 5 s and was killed/],
    ['memory' as const, {}, /ran out of memory/],
  ])('ended by %s is an error that says so, with the output so far', async (endedBy, more, expected) => {
    const executor = MemoryExecutor.running(session);
    executor.script = (process) => process.write('half\n').exit({ endedBy, signal: 'SIGKILL' });
    const outcome = await bash.run({ command: 'make', ...more }, contextFor(executor));
    expect(outcome.isError).toBe(true);
    expect(textOf(outcome.content)).toMatch(/^half\n/);
    expect(textOf(outcome.content)).toMatch(expected);
  });

  it('shows what comes as it comes, in whole characters and without escape sequences', async () => {
    const executor = MemoryExecutor.running(session);
    const euro = Buffer.from('\x1b[31m€\x1b[0m');
    executor.script = (process) => {
      process.write(euro.subarray(0, 3)).write(euro.subarray(3, 7)).write(euro.subarray(7)).exit();
    };
    const shown: string[] = [];
    const outcome = await bash.run(
      { command: 'x' },
      contextFor(executor, { onOutput: (text) => shown.push(text) }),
    );
    expect(shown.join('')).toBe('€');
    expect(textOf(outcome.content)).toBe('€');
  });

  it('that writes for long is read to its end, over many polls', async () => {
    const executor = MemoryExecutor.running(session);
    executor.script = (process) => {
      let line = 0;
      const timer = setInterval(() => {
        process.write(`line ${line++}\n`);
        if (line === 5) {
          clearInterval(timer);
          process.exit();
        }
      }, 1);
    };
    const outcome = await bash.run({ command: 'x' }, contextFor(executor));
    expect(textOf(outcome.content)).toBe('line 0\nline 1\nline 2\nline 3\nline 4');
  });

  it('with too much output gives head and tail, and keeps the whole in the sandbox', async () => {
    const executor = MemoryExecutor.running(session);
    const whole = Array.from({ length: 20_000 }, (_, index) => `line ${index}\n`).join('');
    executor.script = (process) => process.write(whole).exit();
    const outcome = await bash.run({ command: 'seq' }, contextFor(executor));
    const text = textOf(outcome.content);
    expect(text.length).toBeLessThan(31_000);
    expect(text).toMatch(/^line 0\n/);
    expect(text).toMatch(/line 19999$/);
    const path = '/home/agent/.scriptorium/calls/call_1.log';
    expect(text).toMatch(
      /\n\[\.\.\. \d+ bytes are missing here; the whole output \(\d+ bytes\) is in [^ ]+call_1\.log \.\.\.\]\n/,
    );
    expect(executor.text(path)).toBe(whole);
    expect(outcome.details).toMatchObject({ logPath: path });
  });

  it('in a sandbox that does not run is an error, not an exception', async () => {
    const outcome = await bash.run({ command: 'true' }, contextFor(new MemoryExecutor()));
    expect(outcome).toMatchObject({ isError: true, details: { refused: 'no_sandbox' } });
  });

  it('cannot be told where it ended by anything but a plain path', async () => {
    for (const said of ['relative\n', '', '/a\n/b\n', '/bad\x1b[31m\n', '/\ufffd\n']) {
      const executor = MemoryExecutor.running(session);
      executor.script = (process) => process.write(said, 'control').exit();
      expect(await bash.run({ command: 'x' }, contextFor(executor))).not.toHaveProperty('cwd');
    }
  });

  it('restart goes back to the workspace without starting anything', async () => {
    const executor = MemoryExecutor.running(session);
    const outcome = await bash.run({ restart: true }, contextFor(executor, { cwd: '/tmp' }));
    expect(outcome).toMatchObject({ isError: false, cwd: '/workspace' });
    expect(executor.started).toEqual([]);
  });
});

describe('an interrupt', () => {
  it('kills the command and gives the output so far', async () => {
    const executor = MemoryExecutor.running(session);
    const controller = new AbortController();
    executor.script = (process) => process.write('so far\n');
    const context = contextFor(executor, { signal: controller.signal, onOutput: () => controller.abort() });
    const outcome = await bash.run({ command: 'sleep 1000' }, context);
    expect(outcome.isError).toBe(true);
    expect(textOf(outcome.content)).toBe('so far\n\nTool execution was interrupted before completion.');
  });

  it('before the start starts nothing', async () => {
    const executor = MemoryExecutor.running(session);
    const outcome = await bash.run({ command: 'x' }, contextFor(executor, { signal: AbortSignal.abort() }));
    expect(outcome.isError).toBe(true);
    expect(executor.started).toEqual([]);
  });

  it('that comes too late leaves the result as it is', async () => {
    const executor = MemoryExecutor.running(session);
    const controller = new AbortController();
    executor.script = (process) => {
      process.exit();
      controller.abort();
    };
    const outcome = await bash.run({ command: 'x' }, contextFor(executor, { signal: controller.signal }));
    expect(outcome.isError).toBe(false);
  });

  it('whose kill is never confirmed ends in doubt, not in an endless wait', async () => {
    const executor = MemoryExecutor.running(session);
    const controller = new AbortController();
    executor.terminateProcess = async () => ({});
    // A host that answers at once, and always that it still runs.
    executor.script = (process) => {
      process.read = async () => ({ chunks: [], nextSeq: 0, droppedBytes: 0, process: { state: 'running' } });
      controller.abort();
    };
    const outcome = await bash.run({ command: 'x' }, contextFor(executor, { signal: controller.signal }));
    expect(outcome).toMatchObject({ isError: true, inDoubt: true });
  });
});

describe('after a takeover', () => {
  it.each(['before', 'after'] as const)(
    'a command runs once, though the host broke off %s the start',
    async (when) => {
      const executor = MemoryExecutor.running(session);
      executor.script = (process) => process.write('once\n').exit();
      executor.breakNext('startProcess', when);
      await expect(bash.run({ command: 'x' }, contextFor(executor))).rejects.toBeInstanceOf(HostUnreachable);
      const outcome = await recover({ command: 'x' }, contextFor(executor, { fence: 2 }));
      expect(textOf(outcome.content)).toBe('once');
      expect(executor.started).toHaveLength(1);
    },
  );

  it('a running command is read from its first byte to its end', async () => {
    const executor = MemoryExecutor.running(session);
    executor.script = (process) => {
      process.write('first\n');
      setTimeout(() => process.write('second\n').exit(), 5);
    };
    const interrupted = bash.run({ command: 'x' }, contextFor(executor));
    const outcome = await recover({ command: 'x' }, contextFor(executor, { fence: 2 }));
    expect(textOf(outcome.content)).toBe('first\nsecond');
    await interrupted;
    expect(executor.started).toHaveLength(1);
  });

  it('a command whose sandbox died is in doubt, and is not run again', async () => {
    const executor = MemoryExecutor.running(session);
    executor.script = (process) => process.write('copied 1 of 2\n');
    void bash.run({ command: 'deploy' }, contextFor(executor));
    executor.loseProcesses('the host restarted');
    const outcome = await recover({ command: 'deploy' }, contextFor(executor, { fence: 2 }));
    expect(outcome).toMatchObject({ isError: true, inDoubt: true });
    expect(textOf(outcome.content)).toMatch(
      /not known whether.*the host restarted[\s\S]*deploy[\s\S]*copied 1 of 2/,
    );
    expect(executor.started).toHaveLength(1);
  });

  it('a lost command whose output is gone as well is still in doubt', async () => {
    const status: CallStatus = { kind: 'process', process: { state: 'lost', reason: 'the disk is gone' } };
    const context = contextFor(MemoryExecutor.running(session));
    const outcome = await bash.recover?.({ command: 'deploy' }, context, status);
    expect(outcome).toMatchObject({ isError: true, inDoubt: true });
  });

  it('long output is saved once, under the same name', async () => {
    const executor = MemoryExecutor.running(session);
    executor.script = (process) => process.write('x'.repeat(50_000)).exit();
    executor.breakNext('applyEdits', 'after');
    await expect(bash.run({ command: 'x' }, contextFor(executor))).rejects.toBeInstanceOf(HostUnreachable);
    const outcome = await recover({ command: 'x' }, contextFor(executor, { fence: 2 }));
    expect(textOf(outcome.content)).toContain('the whole output (50000 bytes) is in');
  });
});

it('a background start gives the pid and the log', async () => {
  const executor = MemoryExecutor.running(session);
  executor.script = (process) => process.write('42 /home/agent/.scriptorium/calls/call_1.log\n').exit();
  const outcome = await bash.run({ command: 'serve', run_in_background: true }, contextFor(executor));
  expect(outcome).toMatchObject({ isError: false, details: { pid: 42 } });
  expect(textOf(outcome.content)).toContain('/home/agent/.scriptorium/calls/call_1.log');
});

describe('the script under a real bash', () => {
  const folders: string[] = [];
  afterEach(() => {
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
  });

  function runReally(command: string, { cwd = '/usr', isBackground = false } = {}) {
    const folder = mkdtempSync(join(tmpdir(), 'bash-tool-'));
    folders.push(folder);
    const [program, ...args] = bashArgv(command, cwd, 'call/1', isBackground);
    // Descriptor 9 as the sandbox has it: nine inherited ones would be needed, so a shell opens it.
    const shell = 'exec 9>"$1"; shift; exec "$@"';
    const control = join(folder, 'control');
    const done = spawnSync('/bin/bash', ['-c', shell, 'bash', control, program as string, ...args], {
      cwd: '/',
      env: { ...process.env, HOME: folder },
    });
    const output = done.stdout.toString() + done.stderr.toString();
    return { folder, output, exitCode: done.status, cwd: readFileSync(control, 'utf8') };
  }

  it.each([
    ['at its end', 'cd /tmp', 0],
    ['after exit', 'cd /tmp; exit 3', 3],
    ['after a failure under set -e', 'set -e; cd /tmp; false; cd /', 1],
    ['after a failure', 'cd /tmp; (exit 4)', 4],
  ])('reports the directory %s and keeps the exit code', (_, command, exitCode) => {
    expect(runReally(command)).toMatchObject({ exitCode, cwd: '/tmp\n' });
  });

  it('does not give the command our arguments or our descriptor', () => {
    const { output } = runReally('echo "$#:$1"; echo leak >&9');
    expect(output).toMatch(/^0:\n.*9: Bad file descriptor/);
  });

  it('takes any text as the command, with quotes, line breaks and here-documents', () => {
    const { output } = runReally("printf '%s\\n' 'it'\\''s' \"$(echo \\$x)\"\ncat <<E\nhi\nE");
    expect(output).toBe("it's\n$x\nhi\n");
  });

  it('a syntax error is told in the words of the command', () => {
    const { output, exitCode } = runReally('if then');
    expect(output).toContain('if then');
    expect(output).not.toContain('shift');
    expect(exitCode).toBe(2);
  });

  it('a directory that vanished is noted, and the command is not run in a place that nobody named', () => {
    const { output } = runReally('pwd', { cwd: '/no such/place' });
    expect(output).toContain('[/no such/place cannot be entered any more; this ran in /workspace]');
  });

  it('a background command writes to its log, and the start returns its pid', async () => {
    const { output, folder, exitCode } = runReally('echo $$; echo done', { isBackground: true });
    const log = join(folder, '.scriptorium/calls/call_1.log');
    expect(exitCode).toBe(0);
    await expect
      .poll(() => existsSync(log) && readFileSync(log, 'utf8'))
      .toBe(`${output.split(' ')[0]}\ndone\n`);
  });
});
