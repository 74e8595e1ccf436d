import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { checkArchive } from './archive-check.ts';

type Member = { name: string; type?: string; mode?: number; content?: string; link?: string };

const folder = mkdtempSync(path.join(tmpdir(), 'scriptorium-archive-'));
afterAll(() => rmSync(folder, { recursive: true }));

function headerOf({ name, type = '0', mode = 0o644, content = '', link = '' }: Member): Buffer {
  const header = Buffer.alloc(512);
  header.write(name, 0, 100, 'latin1');
  header.write(mode.toString(8).padStart(7, '0'), 100);
  header.write(content.length.toString(8).padStart(11, '0'), 124);
  header.write('        ', 148);
  header.write(type, 156);
  header.write(link, 157, 100, 'latin1');
  header.write('ustar\0', 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}

function tarOf(members: Member[]): Buffer {
  const parts = members.flatMap((member) => {
    const content = Buffer.from(member.content ?? '', 'latin1');
    return [headerOf(member), content, Buffer.alloc((512 - (content.length % 512)) % 512)];
  });
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}

const manifest: Member = { name: 'manifest.json', content: '{"format":"scriptorium.checkpoint/1"}' };
const base: Member[] = [
  manifest,
  { name: 'workspace/', type: '5', mode: 0o700 },
  { name: 'workspace/file', content: 'x'.repeat(700) },
];

function check(bytes: Buffer): Promise<{ files: number }> {
  const file = path.join(folder, 'archive');
  writeFileSync(file, bytes);
  return checkArchive(file);
}

const checkMembers = (members: Member[]): Promise<{ files: number }> =>
  check(zstdCompressSync(tarOf(members)));

/** One record of an extended header, which counts its own length. */
function pax(name: string, value: string): Member {
  const rest = ` ${name}=${value}\n`;
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length++;
  return { name: 'extended', type: 'x', content: `${length}${rest}` };
}

describe('an imported archive', () => {
  it('that is a checkpoint is taken, with links inside and to the system', async () => {
    const links: Member[] = [
      { name: 'workspace/inside', type: '2', link: '../workspace/file' },
      { name: 'workspace/python', type: '2', link: '/usr/bin/python3' },
      { name: 'workspace/up', type: '2', link: '../home/agent/x' },
      { name: 'workspace/hard', type: '1', link: 'workspace/file' },
      { name: 'outputs/', type: '5' },
      { name: 'outputs/pipe', type: '6' },
      { name: 'home/', type: '5' },
    ];
    expect(await checkMembers([...base, ...links])).toEqual({ files: 6 });
  });

  it.each<[string, Member[]]>([
    ['a name with ".."', [{ name: 'workspace/../../etc/passwd' }]],
    [
      'a name with ".." in an extended header',
      [pax('path', 'workspace/../../x'), { name: 'workspace/fine' }],
    ],
    ['a sparse name with ".."', [pax('GNU.sparse.name', '../x'), { name: 'workspace/fine' }]],
    ['an absolute name', [{ name: '/workspace/file' }]],
    ['a name in no folder of a disk', [{ name: 'journal' }]],
    ['the prototype for a folder', [{ name: 'constructor/x' }]],
    ['a member below a link', [{ name: 'workspace/l', type: '2', link: '/tmp' }, { name: 'workspace/l/x' }]],
    ['a folder that is a link', [{ name: 'outputs', type: '2', link: '/tmp' }]],
    ['an absolute link out', [{ name: 'workspace/l', type: '2', link: '/etc/passwd' }]],
    ['a relative link out', [{ name: 'workspace/a/l', type: '2', link: '../../etc/passwd' }]],
    ['a link that only begins like a place of ours', [{ name: 'workspace/l', type: '2', link: '/usrlocal' }]],
    [
      'a link by an extended header',
      [pax('linkpath', '/root/x'), { name: 'workspace/l', type: '2', link: 'file' }],
    ],
    ['a hard link out', [{ name: 'workspace/l', type: '1', link: '../../etc/passwd' }]],
    ['a hard link to the absolute', [{ name: 'workspace/l', type: '1', link: '/etc/passwd' }]],
    ['a character device', [{ name: 'workspace/d', type: '3' }]],
    ['a block device', [{ name: 'workspace/d', type: '4' }]],
    ['a setuid program', [{ name: 'workspace/s', mode: 0o4755 }]],
    ['a setgid program', [{ name: 'workspace/s', mode: 0o2755 }]],
    ['a header for all that follows', [{ ...pax('path', 'workspace/x'), type: 'g' }]],
    ['a second manifest', [manifest]],
  ])('is refused for %s', async (_, members) => {
    await expect(checkMembers([...base, ...members])).rejects.toMatchObject({
      refusal: { refused: 'bad_archive' },
    });
  });

  it('is refused where it is no archive, is cut off, is damaged, is empty, or has no manifest of ours', async () => {
    const whole = tarOf(base);
    const damaged = Buffer.from(whole);
    damaged[512 + 512 + 5] = 0x7a;
    const cases: Buffer[] = [
      Buffer.alloc(0),
      Buffer.from('nothing of the kind'),
      zstdCompressSync(whole).subarray(0, -4),
      zstdCompressSync(whole.subarray(0, 512 * 4)),
      zstdCompressSync(damaged),
      zstdCompressSync(Buffer.alloc(1024)),
      zstdCompressSync(tarOf(base.slice(1))),
      zstdCompressSync(tarOf([{ ...manifest, content: '{"format":"scriptorium.checkpoint/2"}' }])),
      zstdCompressSync(tarOf([{ ...manifest, content: '{' }])),
    ];
    for (const bytes of cases)
      await expect(check(bytes)).rejects.toMatchObject({ refusal: { refused: 'bad_archive' } });
  });
});
