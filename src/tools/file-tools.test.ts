import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { MemoryExecutor } from '../../test/peers/memory-executor.ts';
import { textOf } from '../protocol/content.ts';
import type { JsonObject } from '../protocol/json.ts';
import { HostUnreachable, isRefusal } from '../sandbox/executor.ts';
import type { ToolContext, ToolOutcome } from './tool.ts';
import { findTool, parseInput } from './toolset.ts';

const session = 'sesn_1';

function contextFor(executor: MemoryExecutor, more: Partial<ToolContext> = {}): ToolContext {
  const signal = new AbortController().signal;
  return { session, fence: 1, callId: 'call_1', cwd: '/workspace', executor, signal, ...more };
}

/** As the engine does it: by name, through the input's door; as one line with the error mark in front. */
async function use(
  executor: MemoryExecutor,
  name: string,
  json: JsonObject,
  more: Partial<ToolContext> = {},
) {
  const tool = findTool(name);
  const parsed = tool ? parseInput(tool, json) : { ok: false as const, message: 'no such tool' };
  if (!tool || !parsed.ok) throw new Error(parsed.ok ? 'no such tool' : parsed.message);
  return said(await tool.run(parsed.input, contextFor(executor, more)));
}

async function recover(executor: MemoryExecutor, name: string, json: JsonObject): Promise<ToolOutcome> {
  const context = contextFor(executor, { fence: 2 });
  const status = await executor.callStatus(context);
  if (isRefusal(status)) throw new Error(status.message);
  return (await findTool(name)?.recover?.(json, context, status)) as ToolOutcome;
}

function said(outcome: ToolOutcome): string {
  return (outcome.isError ? 'ERROR ' : '') + textOf(outcome.content);
}

describe('read', () => {
  const files = {
    '/workspace/a.txt': 'one\ntwo\nthree\n',
    '/workspace/dos.txt': 'one\r\ntwo\r\n',
    '/workspace/empty': '',
    '/workspace/latin1': Buffer.from([0x63, 0x61, 0x66, 0xe9]),
    '/workspace/picture': Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d]),
    '/workspace/data': Buffer.from([1, 2, 0, 3]),
    '/workspace/src/deep.txt': 'deep',
  };
  const inWorkspace = (): MemoryExecutor => MemoryExecutor.running(session, files);

  it.each([
    ['a.txt', 'one\ntwo\nthree\n'],
    ['./src/../a.txt', 'one\ntwo\nthree\n'],
    ['/workspace/src/deep.txt', 'deep'],
    ['dos.txt', 'one\r\ntwo\r\n'],
    ['empty', '(the file is empty)'],
    ['latin1', '[Not valid UTF-8: bytes that cannot be decoded are shown as \ufffd.]\ncaf\ufffd'],
    ['picture', 'ERROR picture is not text: it looks like a PNG image (5 bytes). Use bash to work with it.'],
    ['data', 'ERROR data is not text: it looks like binary data (4 bytes). Use bash to work with it.'],
    ['none', 'ERROR none does not exist.'],
    ['src', 'ERROR src is a directory. Use glob or bash (ls) to see what is in it.'],
    ['pipe', 'ERROR pipe is not a regular file (a pipe, a socket or a device).'],
  ])('%s', async (file_path, expected) => {
    const executor = inWorkspace();
    executor.put('/workspace/pipe', '', 'other');
    expect(await use(executor, 'read', { file_path })).toBe(expected);
  });

  it.each([
    [[1, 1], 'one\n'],
    [[2, 3], 'two\nthree\n'],
    [[2, 0], 'two\nthree\n'],
    [[2, 99], 'two\nthree\n'],
    [[0, 1], 'one\n'],
    [[4, 5], 'ERROR a.txt has 3 lines; line 4 is past its end.'],
    [[3, 2], 'ERROR view_range: the first line (3) is after the last (2).'],
  ])('lines %j', async (view_range, expected) => {
    expect(await use(inWorkspace(), 'read', { file_path: 'a.txt', view_range })).toBe(expected);
  });

  it('a large file is refused whole and read in ranges, across the steps of reading', async () => {
    const line = `${'x'.repeat(99)}\n`;
    const executor = MemoryExecutor.running(session, { '/workspace/big': line.repeat(30_000) });
    expect(await use(executor, 'read', { file_path: 'big' })).toMatch(
      /^ERROR big is 3000000 bytes.*view_range/,
    );
    expect(await use(executor, 'read', { file_path: 'big', view_range: [10_485, 10_487] })).toBe(
      line.repeat(3),
    );
    expect(await use(executor, 'read', { file_path: 'big', view_range: [29_999, 0] })).toBe(line.repeat(2));
    expect(await use(executor, 'read', { file_path: 'big', view_range: [1, 0] })).toMatch(
      /^ERROR .*Use a smaller range/,
    );
  });

  it('is in the directory of the thread, and ~ is the home of the sandbox', async () => {
    const executor = MemoryExecutor.running(session, { '/srv/x': 'there', '/home/agent/.profile': 'home' });
    expect(await use(executor, 'read', { file_path: 'x' }, { cwd: '/srv' })).toBe('there');
    expect(await use(executor, 'read', { file_path: '~/.profile' })).toBe('home');
  });
});

describe('write', () => {
  it('creates a file and says when it overwrote one', async () => {
    const executor = MemoryExecutor.running(session);
    const first = await use(executor, 'write', { file_path: 'new/a.txt', content: 'é\n' });
    expect(first).toBe('Created new/a.txt (3 bytes).');
    const again = await use(executor, 'write', { file_path: 'new/a.txt', content: '' }, { callId: 'call_2' });
    expect(again).toBe('Overwrote new/a.txt (0 bytes).');
    expect(executor.text('/workspace/new/a.txt')).toBe('');
  });

  it('onto a directory is an error', async () => {
    const executor = MemoryExecutor.running(session, { '/workspace/src/a': '' });
    expect(await use(executor, 'write', { file_path: 'src', content: '' })).toMatch(
      /^ERROR .*not a regular file/,
    );
  });

  it.each(['before', 'after'] as const)('happens once, though the host broke off %s it', async (when) => {
    const executor = MemoryExecutor.running(session);
    const input = { file_path: 'a.txt', content: 'new' };
    executor.breakNext('applyEdits', when);
    await expect(use(executor, 'write', input)).rejects.toBeInstanceOf(HostUnreachable);
    expect(said(await recover(executor, 'write', input))).toBe('Created a.txt (3 bytes).');
  });

  it('that a dying host left unmade is made by asking again', async () => {
    const executor = MemoryExecutor.running(session);
    const input = { file_path: 'a.txt', content: 'new' };
    executor.dieAfterEdits(0);
    await expect(use(executor, 'write', input)).rejects.toBeInstanceOf(HostUnreachable);
    expect(said(await recover(executor, 'write', input))).toBe('Created a.txt (3 bytes).');
    expect(executor.text('/workspace/a.txt')).toBe('new');
  });
});

describe('edit', () => {
  const file_path = 'a.txt';
  const source = 'let a = 1;\nlet b = 1;\n\tlet c = 3;\n';
  const dos = 'one\r\ntwo\r\nthree\r\n';

  it.each([
    [
      'one place',
      source,
      { old_string: 'a = 1', new_string: 'a = 2' },
      'let a = 2;\nlet b = 1;\n\tlet c = 3;\n',
    ],
    [
      'all places',
      source,
      { old_string: '= 1', new_string: '= 9', replace_all: true },
      'let a = 9;\nlet b = 9;\n\tlet c = 3;\n',
    ],
    ['to nothing', source, { old_string: 'let a = 1;\n', new_string: '' }, 'let b = 1;\n\tlet c = 3;\n'],
    [
      'with signs that a replacement could mean',
      'x',
      { old_string: 'x', new_string: "$& $1 $` $'" },
      "$& $1 $` $'",
    ],
    [
      'lines of a file with DOS line ends',
      dos,
      { old_string: 'one\ntwo', new_string: '1\n2' },
      '1\r\n2\r\nthree\r\n',
    ],
    ['a file with a byte order mark', '\ufeffa', { old_string: 'a', new_string: 'b' }, '\ufeffb'],
  ])('%s', async (_, before, change, after) => {
    const executor = MemoryExecutor.running(session, { '/workspace/a.txt': before });
    expect(await use(executor, 'edit', { file_path, ...change })).toMatch(
      /^Edited a.txt: \d replacements? at line/,
    );
    expect(executor.text('/workspace/a.txt')).toBe(after);
  });

  it.each([
    [
      'a text that is there twice',
      { old_string: 'let', new_string: 'const' },
      'old_string is 3 times in a.txt, at lines 1, 2, 3. Add lines around it until it is unique, or set replace_all.',
    ],
    [
      'a text that is not there',
      { old_string: 'nothing', new_string: '' },
      'old_string is not in a.txt. Read the file again; it may have changed.',
    ],
    [
      'other white space',
      { old_string: '  let c = 3;', new_string: '' },
      'old_string is not in a.txt. Its first line is at line 3, but white space or the lines after it differ.',
    ],
    [
      'no change',
      { old_string: 'let', new_string: 'let' },
      'old_string and new_string are equal; nothing would change.',
    ],
    [
      'a file that is not there',
      { file_path: 'b.txt', old_string: 'a', new_string: 'b' },
      'b.txt does not exist.',
    ],
    [
      'a file that is not UTF-8',
      { file_path: 'latin1', old_string: 'a', new_string: 'b' },
      'latin1 is not valid UTF-8 and was left alone. Use bash to change it.',
    ],
  ])('refuses %s, and leaves the file alone', async (_, change, expected) => {
    const latin1 = Buffer.from([0x61, 0xe9]);
    const executor = MemoryExecutor.running(session, {
      '/workspace/a.txt': source,
      '/workspace/latin1': latin1,
    });
    expect(await use(executor, 'edit', { file_path, ...change })).toBe(`ERROR ${expected}`);
    expect(executor.text('/workspace/a.txt')).toBe(source);
  });

  it('does not overwrite a change that came between reading and writing', async () => {
    const executor = MemoryExecutor.running(session, { '/workspace/a.txt': source });
    const readFile = executor.readFile.bind(executor);
    executor.readFile = async (request) => {
      const answer = await readFile(request);
      executor.put('/workspace/a.txt', `${source}// by another hand\n`);
      return answer;
    };
    const answer = await use(executor, 'edit', { file_path, old_string: 'a = 1', new_string: 'a = 2' });
    expect(answer).toMatch(/^ERROR .*changed by something else in the meantime. Read it again/);
    expect(executor.text('/workspace/a.txt')).toContain('by another hand');
  });

  const input = { file_path, old_string: 'a = 1', new_string: 'a = 2' };

  it('that was made is told from the journal, though its text is not there any more', async () => {
    const executor = MemoryExecutor.running(session, { '/workspace/a.txt': source });
    executor.breakNext('applyEdits', 'after');
    await expect(use(executor, 'edit', input)).rejects.toBeInstanceOf(HostUnreachable);
    expect(said(await recover(executor, 'edit', input))).toBe('Edited a.txt.');
    expect(executor.text('/workspace/a.txt')).toContain('a = 2');
  });

  it('that a dying host left unmade is made by asking again', async () => {
    const executor = MemoryExecutor.running(session, { '/workspace/a.txt': source });
    executor.dieAfterEdits(0);
    await expect(use(executor, 'edit', input)).rejects.toBeInstanceOf(HostUnreachable);
    expect(said(await recover(executor, 'edit', input))).toBe('Edited a.txt.');
    expect(executor.text('/workspace/a.txt')).toContain('a = 2');
  });

  it('that was lost and cannot be worked out again is in doubt, not failed', async () => {
    const executor = MemoryExecutor.running(session, { '/workspace/a.txt': source });
    executor.dieAfterEdits(0);
    await expect(use(executor, 'edit', input)).rejects.toBeInstanceOf(HostUnreachable);
    executor.put('/workspace/a.txt', 'all new');
    const outcome = await recover(executor, 'edit', input);
    expect(outcome).toMatchObject({ isError: true, inDoubt: true });
    expect(said(outcome)).toContain('Read the file before you decide');
  });

  it('leaves nothing half made by an engine that was replaced', async () => {
    const executor = MemoryExecutor.running(session, { '/workspace/a.txt': source });
    await executor.stat({ session, fence: 5, path: '/' });
    expect(await use(executor, 'edit', input)).toMatch(/^ERROR .*fenced/);
    expect(executor.text('/workspace/a.txt')).toBe(source);
  });
});

describe('apply_patch', () => {
  const input = {
    input: '*** Begin Patch\n*** Update File: a.txt\n-old\n+new\n*** Add File: b.txt\n+b\n*** End Patch',
  };

  it('that was made is told in the same words by the engine that takes over', async () => {
    const files = { '/workspace/a.txt': 'old\n' };
    const expected = 'Success. Updated the following files:\nM a.txt\nA b.txt';
    expect(await use(MemoryExecutor.running(session, files), 'apply_patch', input)).toBe(expected);
    const executor = MemoryExecutor.running(session, files);
    executor.breakNext('applyEdits', 'after');
    await expect(use(executor, 'apply_patch', input)).rejects.toBeInstanceOf(HostUnreachable);
    expect(said(await recover(executor, 'apply_patch', input))).toBe(expected);
  });

  it('of which a dying host made only a part is in doubt', async () => {
    const executor = MemoryExecutor.running(session, { '/workspace/a.txt': 'old\n' });
    executor.dieAfterEdits(1);
    await expect(use(executor, 'apply_patch', input)).rejects.toBeInstanceOf(HostUnreachable);
    expect(await recover(executor, 'apply_patch', input)).toMatchObject({ isError: true, inDoubt: true });
  });

  it('of which a dying host made only a part is done once the next host has finished it', async () => {
    const executor = MemoryExecutor.running(session, { '/workspace/a.txt': 'old\n' });
    executor.dieAfterEdits(1);
    await expect(use(executor, 'apply_patch', input)).rejects.toBeInstanceOf(HostUnreachable);
    const readFile = executor.readFile.bind(executor);
    executor.readFile = (request) => {
      executor.finishEdits();
      return readFile(request);
    };
    expect(said(await recover(executor, 'apply_patch', input))).toMatch(/^Success\..*\nM a.txt\nA b.txt$/);
    expect(executor.text('/workspace/b.txt')).toBe('b\n');
  });

  it('keeps the mode of a file that it moves, and says what it expects to find of every file', async () => {
    const executor = MemoryExecutor.running(session, { '/workspace/run.sh': 'echo 1\n' });
    const file = executor.files.get('/workspace/run.sh');
    if (file) file.mode = 0o755;
    const asked: unknown[] = [];
    const applyEdits = executor.applyEdits.bind(executor);
    executor.applyEdits = (request) => {
      asked.push(...request.edits.map(({ content: _, ...edit }) => edit));
      return applyEdits(request);
    };
    const move =
      '*** Begin Patch\n*** Update File: run.sh\n*** Move to: bin/run.sh\n-echo 1\n+echo 2\n*** End Patch';
    await use(executor, 'apply_patch', { input: move });
    const expectSha256 = createHash('sha256').update('echo 1\n').digest('hex');
    expect(asked).toEqual([
      { path: '/workspace/bin/run.sh', expectSha256: null, mode: 0o755 },
      { path: '/workspace/run.sh', expectSha256 },
    ]);
  });
});
