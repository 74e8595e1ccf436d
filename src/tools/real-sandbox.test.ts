/**
 * Every tool through a real host, guest and sandbox. Where this machine cannot have a sandbox of a kind, its tests are
 * skipped with the host's own words; the tools on a memory peer are tested beside each tool.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { textOf } from '../protocol/content.ts';
import type { JsonObject } from '../protocol/json.ts';
import type { Executor, SandboxSpec } from '../sandbox/executor.ts';
import { isRefusal } from '../sandbox/executor.ts';
import { connectHost } from '../sandbox/host/adopt.ts';
import type { HostClient } from '../sandbox/host/client.ts';
import type { ToolContext, ToolOutcome } from './tool.ts';
import { findTool, parseInput } from './toolset.ts';

const session = 'sesn_00000000000000000000000001';
const limits = {
  memoryBytes: 2 ** 30,
  processes: 256,
  openFiles: 1024,
  tmpBytes: 2 ** 27,
  fileBytes: 2 ** 28,
};

describe.each(['bubblewrap', 'none'] as const)('isolation %s', (isolation) => {
  let client: HostClient;
  let unavailable: string | null = null;
  let calls = 0;
  const stateDir = mkdtempSync(join(tmpdir(), 'tools-'));
  const spec: SandboxSpec = { session, fence: 1, isolation, limits, env: {} };

  beforeAll(async () => {
    client = await connectHost({ stateDir, allowUnisolated: true, ownerGraceMs: 1_000 });
    const info = await client.createSandbox(spec);
    unavailable = isRefusal(info) ? info.message : null;
  });

  afterAll(async () => {
    await client.shutdownHost();
    await client.close();
    rmSync(stateDir, { recursive: true, force: true });
  });

  beforeEach((context) => context.skip(unavailable !== null, unavailable ?? ''));

  async function outcomeOf(
    name: string,
    json: JsonObject,
    more: Partial<ToolContext> = {},
  ): Promise<ToolOutcome> {
    const tool = findTool(name);
    const parsed = tool && parseInput(tool, json);
    if (!parsed?.ok) throw new Error(parsed?.message ?? 'no such tool');
    const signal = new AbortController().signal;
    const callId = `call_${++calls}`;
    const executor: Executor = client;
    const outcome = await tool?.run(parsed.input, {
      session,
      fence: 1,
      callId,
      cwd: '/workspace',
      executor,
      signal,
      ...more,
    });
    return outcome as ToolOutcome;
  }

  async function use(name: string, json: JsonObject, more: Partial<ToolContext> = {}): Promise<string> {
    const outcome = await outcomeOf(name, json, more);
    return (outcome.isError ? 'ERROR ' : '') + textOf(outcome.content);
  }

  it('bash gives merged output in order, the exit code, and the directory for the next call', async () => {
    expect(await use('bash', { command: 'echo a; echo b >&2; echo c; exit 3' })).toBe(
      'ERROR a\nb\nc\n\n[exit code: 3]',
    );
    const moved = await outcomeOf('bash', { command: 'mkdir -p deep/er && cd deep/er && pwd' });
    expect(textOf(moved.content)).toBe(moved.cwd);
    expect(moved.cwd).toMatch(/\/deep\/er$/);
    expect(await use('bash', { command: 'pwd' }, { cwd: moved.cwd ?? '' })).toBe(moved.cwd);
    expect(await use('bash', { command: 'basename "$PWD"' }, { cwd: '/workspace/deep' })).toBe('deep');
  });

  it('bash in a directory that is gone says so and still runs', async () => {
    const text = await use('bash', { command: 'echo ran' }, { cwd: '/workspace/gone' });
    expect(text).toMatch(/^\[.*gone cannot be entered any more; this ran in \/workspace\]\nran$/);
  });

  it('bash kills everything a command started when its time is over', async () => {
    const text = await use('bash', {
      command: 'echo begun; (setsid sleep 61.5 &) ; sleep 61.5',
      timeout_ms: 300,
    });
    expect(text).toMatch(/^ERROR begun\n\n\[The command did not end within 0.3 s and was killed/);
    expect(await use('bash', { command: 'ps -ef 2>/dev/null | grep "[s]leep 61.5" || echo none' })).toBe(
      'none',
    );
  });

  it('bash gives way to an interrupt, with the output so far', async () => {
    const controller = new AbortController();
    const onOutput = (): void => controller.abort();
    const text = await use(
      'bash',
      { command: 'echo begun; sleep 60' },
      { signal: controller.signal, onOutput },
    );
    expect(text).toBe('ERROR begun\n\nTool execution was interrupted before completion.');
  });

  it('bash keeps the whole of a long output in the sandbox, where read finds it', async () => {
    const outcome = await outcomeOf('bash', { command: 'seq 1 100000' });
    expect(textOf(outcome.content)).toMatch(/^1\n2\n[\s\S]*bytes are missing here[\s\S]*\n100000$/);
    const path = outcome.details?.logPath as string;
    expect(await use('read', { file_path: path, view_range: [50_000, 50_001] })).toBe('50000\n50001\n');
  });

  it('a background command goes on after its call, and writes to its log', async () => {
    const outcome = await outcomeOf('bash', { command: 'sleep 0.2; echo served', run_in_background: true });
    const logPath = outcome.details?.logPath as string;
    await expect.poll(() => use('bash', { command: `cat ${logPath}` })).toBe('served');
  });

  it('a command that ended is told to a second engine without running again', async () => {
    const input = { command: 'echo x >> runs; wc -l < runs' };
    expect(await use('bash', input, { callId: 'call_once' })).toBe('1');
    const executor: Executor = client;
    const signal = new AbortController().signal;
    const context = { session, fence: 1, callId: 'call_once', cwd: '/workspace', executor, signal };
    const status = await client.callStatus(context);
    if (isRefusal(status)) throw new Error(status.message);
    const outcome = await findTool('bash')?.recover?.(input, context, status);
    expect(outcome && textOf(outcome.content)).toBe('1');
  });

  it('write, read and edit work on the same file, through a link as well', async () => {
    expect(await use('write', { file_path: 'src/a.txt', content: 'one\r\ntwo\r\n' })).toBe(
      'Created src/a.txt (10 bytes).',
    );
    await use('bash', { command: 'ln -sf src/a.txt link; chmod 755 src/a.txt' });
    expect(await use('edit', { file_path: 'link', old_string: 'one\ntwo', new_string: '1\n2' })).toMatch(
      /^Edited link/,
    );
    expect(await use('read', { file_path: 'src/a.txt' })).toBe('1\r\n2\r\n');
    expect(await use('bash', { command: 'test -L link && stat -c %a src/a.txt' })).toBe('755');
  });

  it('read refuses what is no file, and does not hang at a pipe', async () => {
    await use('bash', { command: 'mkfifo -m 600 pipe; mkdir -p dir; head -c 20 /dev/zero > zeros' });
    expect(await use('read', { file_path: 'pipe' })).toMatch(/^ERROR pipe is not a regular file/);
    expect(await use('read', { file_path: 'dir' })).toMatch(/^ERROR dir is a directory/);
    expect(await use('read', { file_path: 'zeros' })).toMatch(/^ERROR zeros is not text/);
    expect(await use('read', { file_path: 'nothing' })).toBe('ERROR nothing does not exist.');
  });

  it('apply_patch changes all files or none, and keeps modes when it moves', async () => {
    await use('bash', {
      command: 'mkdir -p p; echo old > p/a; echo keep > p/b; echo "echo 1" > p/run; chmod 755 p/run',
    });
    const bad =
      '*** Begin Patch\n*** Update File: p/a\n-old\n+new\n*** Update File: p/b\n-gone\n+x\n*** End Patch';
    expect(await use('apply_patch', { input: bad })).toMatch(/^ERROR The patch does not fit\. p\/b/);
    expect(await use('bash', { command: 'cat p/a' })).toBe('old');
    const good =
      '*** Begin Patch\n*** Update File: p/a\n-old\n+new\n*** Update File: p/run\n*** Move to: q/run\n-echo 1\n+echo 2\n*** Delete File: p/b\n*** End Patch';
    expect(await use('apply_patch', { input: good })).toBe(
      'Success. Updated the following files:\nM p/a\nA q/run\nD p/run\nD p/b',
    );
    expect(await use('bash', { command: 'cat p/a; q/run; ls p' })).toBe('new\n2\na');
  });

  it('glob and grep find what is there, and say when nothing is', async () => {
    await use('bash', {
      command: 'mkdir -p s/node_modules; echo needle > s/x.ts; echo needle > s/node_modules/y.ts',
    });
    expect(await use('glob', { pattern: '**/*.ts', path: 's' })).toBe('/workspace/s/x.ts');
    expect(await use('glob', { pattern: '*.none' })).toBe('no matches');
    expect(await use('grep', { pattern: 'need(le)', path: 's' })).toBe('./s/x.ts:1:needle');
    expect(await use('grep', { pattern: '-nothing-$(x)', path: 's' })).toBe('no matches');
    expect(await use('grep', { pattern: 'a(', path: 's' })).toMatch(/^ERROR The search failed\. /);
  });

  it('a command whose sandbox is destroyed is in doubt', async () => {
    const begun = Promise.withResolvers<void>();
    const pending = outcomeOf(
      'bash',
      { command: 'echo begun; sleep 60' },
      { onOutput: () => begun.resolve() },
    );
    await begun.promise;
    await client.destroySandbox({ session, fence: 1, removeDisk: false });
    const outcome = await pending;
    expect(outcome).toMatchObject({ isError: true, inDoubt: true });
    expect(textOf(outcome.content)).toMatch(/not known whether this command completed[\s\S]*begun/);
    expect(await client.createSandbox(spec)).not.toHaveProperty('refused');
  });
});
