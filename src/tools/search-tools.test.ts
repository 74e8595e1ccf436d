import { describe, expect, it } from 'vitest';
import { MemoryExecutor } from '../../test/peers/memory-executor.ts';
import { textOf } from '../protocol/content.ts';
import { HostUnreachable } from '../sandbox/executor.ts';
import { glob } from './glob.ts';
import { grep } from './grep.ts';
import type { ToolContext, ToolOutcome } from './tool.ts';

const session = 'sesn_1';

function contextFor(executor: MemoryExecutor, more: Partial<ToolContext> = {}): ToolContext {
  const signal = new AbortController().signal;
  return { session, fence: 1, callId: 'call_1', cwd: '/workspace', executor, signal, ...more };
}

function said(outcome: ToolOutcome): string {
  return (outcome.isError ? 'ERROR ' : '') + textOf(outcome.content);
}

describe('glob', () => {
  const executor = MemoryExecutor.running(session, {
    '/workspace/old.ts': '',
    '/workspace/src/new.ts': '',
    '/workspace/src/.git/x.ts': '',
    '/workspace/node_modules/y.ts': '',
    '/workspace/src/newest.js': '',
  });
  const find = async (pattern: string, path?: string): Promise<string> =>
    said(await glob.run({ pattern, ...(path !== undefined && { path }) }, contextFor(executor)));

  it.each([
    ['**/*.ts', undefined, '/workspace/src/new.ts\n/workspace/old.ts'],
    ['./src/*', undefined, '/workspace/src/newest.js\n/workspace/src/new.ts'],
    ['*', 'src', '/workspace/src/newest.js\n/workspace/src/new.ts'],
    ['src', undefined, 'no matches'],
    ['*.md', undefined, 'no matches'],
    ['*', 'none', 'ERROR none does not exist.'],
    ['*', 'old.ts', 'ERROR old.ts is not a directory.'],
    ['/etc/*', undefined, 'ERROR The pattern must be relative. Give the directory in path.'],
    ['{a,..}/*', undefined, "ERROR '..' is not allowed in the pattern. Give the directory in path."],
    ['[', undefined, "ERROR The pattern has a '[' without its ']'."],
  ])('%s in %s', async (pattern, path, expected) => {
    expect(await find(pattern, path)).toBe(expected);
  });

  it('gives the newest 200 and says how many there are', async () => {
    const many = MemoryExecutor.running(session);
    for (let index = 0; index < 205; index++) many.put(`/workspace/${index}`, '');
    const lines = said(await glob.run({ pattern: '*' }, contextFor(many))).split('\n');
    expect([lines.length, lines[0], lines[200]]).toEqual([
      201,
      '/workspace/204',
      '[the newest 200 of 205 matches]',
    ]);
  });
});

describe('grep', () => {
  const withAnswer = (stdout: string, exit: { exitCode?: number; endedBy?: 'timeout' } = {}, stderr = '') => {
    const executor = MemoryExecutor.running(session);
    executor.script = (process) => process.write(stdout).write(stderr, 'stderr').exit(exit);
    return executor;
  };
  const search = async (
    executor: MemoryExecutor,
    pattern = 'x',
    more: Partial<ToolContext> = {},
  ): Promise<string> => said(await grep.run({ pattern }, contextFor(executor, more)));

  it('gives the pattern as one argument after --, to grep where there is no ripgrep', async () => {
    const executor = withAnswer('/workspace/a:1:x\n');
    expect(await search(executor, '-e; rm -rf $(x)')).toBe('/workspace/a:1:x');
    expect(executor.started[0]?.argv[0]).toBe('grep');
    expect(executor.started[0]?.argv.slice(-3)).toEqual(['--', '-e; rm -rf $(x)', '.']);
  });

  it('uses ripgrep where there is one', async () => {
    const executor = withAnswer('');
    executor.put('/usr/bin/rg', '');
    await search(executor);
    expect(executor.started[0]?.argv[0]).toBe('/usr/bin/rg');
  });

  it.each([
    ['nothing found', '', { exitCode: 1 }, '', 'no matches'],
    [
      'a wrong pattern',
      '',
      { exitCode: 2 },
      'grep: Unmatched (',
      'ERROR The search failed. grep: Unmatched (',
    ],
    ['files that cannot be read', 'a:1:x\n', { exitCode: 2 }, 'b: denied', 'a:1:x\n[incomplete: b: denied]'],
    [
      'too slow',
      'a:1:x\n',
      { endedBy: 'timeout' as const },
      '',
      'ERROR a:1:x\n[the search did not end within 60 s; search a smaller directory]',
    ],
    ['escape sequences in a file', 'a:1:\x1b[31mx\n', {}, '', 'a:1:x'],
  ])('%s', async (_, stdout, exit, stderr, expected) => {
    expect(await search(withAnswer(stdout, exit, stderr))).toBe(expected);
  });

  it('cuts long lines, and stops at 100 KiB with a note', async () => {
    const text = await search(withAnswer(`${'y'.repeat(5_000)}\n`.repeat(100)));
    expect(Buffer.byteLength(text)).toBeLessThan(101 * 1024);
    expect(text.split('\n')[0]).toBe(`${'y'.repeat(2_000)}... [line cut]`);
    expect(text).toMatch(/\[there are more matches; search a smaller directory or for a narrower pattern\]$/);
  });

  it('kills a search that has found enough, and gives what it found', async () => {
    const executor = MemoryExecutor.running(session);
    executor.script = (process) => process.write('line\n'.repeat(300_000));
    expect(await search(executor)).toMatch(/^line\n[\s\S]*\[there are more matches/);
    expect(executor.asked.map((call) => call.method)).toContain('terminateProcess');
  });

  it('an interrupt ends it with an error', async () => {
    const controller = new AbortController();
    const executor = MemoryExecutor.running(session);
    executor.script = () => controller.abort();
    expect(await search(executor, 'x', { signal: controller.signal })).toBe(
      'ERROR Tool execution was interrupted before completion.',
    );
  });

  it('searches again after a takeover, though the journal says that the first search was lost', async () => {
    const executor = MemoryExecutor.running(session);
    executor.breakNext('startProcess', 'after');
    executor.script = () => {};
    const first = search(executor);
    setTimeout(() => executor.loseProcesses('the host restarted'), 1);
    await expect(first).rejects.toBeInstanceOf(HostUnreachable);
    executor.script = (process) => process.write('a:1:x\n').exit();
    expect(await search(executor, 'x', { fence: 2 })).toBe('a:1:x');
  });
});
