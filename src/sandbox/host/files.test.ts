import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Rig, specOf, unrefused } from '../../../test/escapes/rig.ts';
import { type Edit, isRefusal } from '../executor.ts';
import { Journal } from './journal.ts';
import { MAX_LINE_BYTES } from './wire.ts';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const put = (file: string, text: string, more: Partial<Edit> = {}): Edit => ({
  path: `/workspace/${file}`,
  content: Buffer.from(text),
  ...more,
});
const s = { session: 's', fence: 1 };

let rig: Rig;
let calls = 0;
beforeAll(async () => {
  rig = await Rig.start();
  await rig.create('s');
});
afterAll(() => rig.close());

const edit = (...edits: Edit[]) => rig.client.applyEdits({ ...s, callId: `edit_${calls++}`, edits });
const read = async (file: string): Promise<string> => {
  const found = await rig.client.readFile({ ...s, path: `/workspace/${file}`, maxBytes: 1 << 20 });
  return isRefusal(found) ? found.refused : Buffer.from(found.data).toString();
};

it('makes files with their folders, keeps the mode of one that is there, and runs none of it as root', async () => {
  unrefused(await edit(put('deep/er/new.txt', 'one', { mode: 0o600 })));
  await rig.sh('s', 'echo old > script.sh; chmod 755 script.sh');
  unrefused(await edit(put('script.sh', 'echo new', { mode: 0o600 })));
  const { stdout } = await rig.sh('s', 'stat -c "%a %U" deep/er/new.txt script.sh; sh script.sh');
  expect(stdout).toBe('600 agent\n755 agent\nnew\n');
});

it('changes nothing at all when one of several files is not what was expected', async () => {
  unrefused(await edit(put('a', 'a1'), put('b', 'b1')));
  const outcome = await edit(
    put('a', 'a2', { expectSha256: sha256('a1') }),
    put('b', 'b2', { expectSha256: sha256('something else') }),
  );
  expect(outcome).toMatchObject({ refused: 'changed' });
  expect([await read('a'), await read('b')]).toEqual(['a1', 'b1']);
  expect(await edit(put('a', 'x', { expectSha256: null }))).toMatchObject({ refused: 'changed' });
  expect(await edit(put('c', 'x', { expectSha256: sha256('') }))).toMatchObject({ refused: 'changed' });
});

it('does several edits of one file in order, and removes', async () => {
  const outcome = await edit(
    put('twice', '1', { expectSha256: null }),
    put('twice', '2', { expectSha256: sha256('1') }),
    { path: '/workspace/a', content: null, expectSha256: sha256('a1') },
  );
  expect(outcome).toMatchObject({
    files: [
      { existed: false, sha256: sha256('1') },
      { existed: true, sha256: sha256('2') },
      { existed: true, sha256: null, sizeBytes: 0 },
    ],
  });
  expect([await read('twice'), await read('a')]).toEqual(['2', 'not_found']);
});

it('answers the same edits asked again from the journal, and other edits under the same id with a refusal', async () => {
  const request = { ...s, callId: 'same', edits: [put('same', '1', { expectSha256: null })] };
  const first = unrefused(await rig.client.applyEdits(request));
  await rig.sh('s', 'echo changed since > same');
  expect(await rig.client.applyEdits(request)).toEqual(first);
  expect(await read('same')).toBe('changed since\n');
  expect(await rig.client.callStatus(request)).toEqual({ kind: 'edits', state: 'done', outcome: first });
  const other = { ...request, edits: [put('same', '2')] };
  expect(await rig.client.applyEdits(other)).toMatchObject({ refused: 'call_mismatch' });
});

it('never hangs on a FIFO, a device or a socket, and never follows a link where it lists', async () => {
  await rig.sh('s', 'mkfifo pipe; ln -s /proc/1/root/etc/shadow out; ln -s / root; ln -s loop loop; mkdir d');
  expect(await read('pipe')).toBe('not_a_file');
  expect(await read('d')).toBe('not_a_file');
  // PID 1 reads for us; its root is the sandbox's own, which has no such file.
  expect(await read('out')).toBe('not_found');
  expect(await read('loop')).toBe('not_found');
  expect(await rig.client.readFile({ ...s, path: '/dev/zero', maxBytes: 10 })).toMatchObject({
    refused: 'not_a_file',
  });
  expect(await rig.client.readFile({ ...s, path: '/workspace/b/x', maxBytes: 10 })).toMatchObject({
    refused: 'not_a_directory',
  });
  expect(await edit(put('pipe', 'x'))).toMatchObject({ refused: 'not_a_file' });
  expect(await edit(put('d', 'x'))).toMatchObject({ refused: 'not_a_file' });
  expect(await edit({ path: '/usr/bin/git', content: Buffer.from('x') })).toMatchObject({
    refused: 'permission_denied',
  });
  const walk = { ...s, path: '/workspace', skipDirectories: ['deep'], maxEntries: 1000, maxDepth: 9 };
  const { entries, isWhole } = unrefused(await rig.client.walk(walk));
  const types = Object.fromEntries(entries.map((entry) => [path.basename(entry.path), entry.type]));
  expect(types).toMatchObject({ pipe: 'other', root: 'symlink', loop: 'symlink', d: 'directory', b: 'file' });
  expect(entries.some((entry) => entry.path.includes('/root/') || entry.path.includes('deep'))).toBe(false);
  expect(isWhole).toBe(true);
  expect(unrefused(await rig.client.walk({ ...walk, maxEntries: 2 }))).toMatchObject({ isWhole: false });
});

it('replaces what a link points to, and says so of a link that goes nowhere', async () => {
  await rig.sh('s', 'mkdir real; echo 1 > real/file; ln -s real/file link');
  unrefused(await edit(put('link', '2', { expectSha256: sha256('1\n') })));
  expect((await rig.sh('s', 'readlink link; cat real/file')).stdout).toBe('real/file\n2');
});

it('refuses a change of a read-only file instead of replacing it behind the back of its owner', async () => {
  await rig.sh('s', 'echo 1 > locked; chmod 444 locked');
  expect(await edit(put('locked', '2'))).toMatchObject({ refused: 'permission_denied' });
});

it('moves megabytes in and out, from any offset', async () => {
  const text = 'abcdefghij'.repeat(500_000);
  unrefused(await edit(put('big', text)));
  const whole = unrefused(await rig.client.readFile({ ...s, path: '/workspace/big', maxBytes: 10 << 20 }));
  expect([Buffer.from(whole.data).toString() === text, whole.isWhole]).toEqual([true, true]);
  const middle = unrefused(
    await rig.client.readFile({ ...s, path: '/workspace/big', offset: 12, maxBytes: 5 }),
  );
  expect([Buffer.from(middle.data).toString(), middle.isWhole, middle.sizeBytes]).toEqual([
    'cdefg',
    false,
    text.length,
  ]);
  const proc = unrefused(await rig.client.readFile({ ...s, path: '/proc/self/status', maxBytes: 1 << 20 }));
  expect(Buffer.from(proc.data).toString()).toContain('Seccomp:\t2');
});

it('leaves no temporary file behind', async () => {
  expect((await rig.sh('s', 'find / -name ".scriptorium*" 2>/dev/null')).stdout).toBe('');
});

it('finishes edits that a killed host had begun, once and only where nothing else was changed', async () => {
  const other = await Rig.start();
  await other.create('s');
  await other.sh('s', 'echo -n one > first; echo -n done > second');
  // What a host leaves that dies between its journal and the last file: the second file is in place already.
  await other.killHost();
  const edits = [
    put('second', 'done', { expectSha256: sha256('before') }),
    put('first', 'two', { expectSha256: sha256('one') }),
  ];
  const wire = edits.map((e) => ({ ...e, content: Buffer.from(e.content as Uint8Array).toString('base64') }));
  const contentHash = createHash('sha256')
    .update(JSON.stringify(['edits', wire]))
    .digest('hex');
  const journal = Journal.open(path.join(other.stateDir, 'sessions/s/journal'), () => {});
  await journal.append({ type: 'edits', fence: 1, callId: 'half', contentHash, edits: wire });
  await journal.close();
  await other.reach();
  expect(await other.client.callStatus({ ...s, callId: 'half' })).toMatchObject({
    kind: 'edits',
    state: 'done',
  });
  expect((await other.sh('s', 'cat first second')).stdout).toBe('twodone');
  const again = unrefused(await other.client.applyEdits({ ...s, callId: 'half', edits }));
  expect(again.files.map((file) => file.sha256)).toEqual([sha256('done'), sha256('two')]);
  await other.close();
});

it('reads a journal whose last record was torn by a power cut, and goes on from there', async () => {
  const file = path.join(rig.stateDir, 'torn');
  const journal = Journal.open(file, () => {});
  await journal.append({ type: 'fence', fence: 1 });
  await journal.append({ type: 'fence', fence: 2 });
  await journal.close();
  const { appendFileSync, truncateSync, statSync } = await import('node:fs');
  const whole = statSync(file).size;
  for (const tear of [() => truncateSync(file, whole - 3), () => appendFileSync(file, Buffer.alloc(11, 7))]) {
    tear();
    const seen: unknown[] = [];
    const again = Journal.open(file, (record) => seen.push(record));
    await again.append({ type: 'fence', fence: 3 });
    await again.close();
    expect(seen[0]).toEqual({ type: 'fence', fence: 1 });
  }
  const seen: unknown[] = [];
  await Journal.open(file, (record) => seen.push(record)).close();
  expect(seen).toEqual([1, 3, 3].map((fence) => ({ type: 'fence', fence })));
  expect(readFileSync(file).includes(Buffer.alloc(11, 7))).toBe(false);
});

it('takes edits up to its cap and refuses more without breaking the connection', async () => {
  const content = Buffer.alloc(25 << 20);
  expect(content.length).toBeLessThan(MAX_LINE_BYTES);
  await expect(edit({ path: '/workspace/huge', content })).rejects.toThrow('at most');
  expect(await rig.client.createSandbox(specOf('s'))).toMatchObject({ reused: true });
});
