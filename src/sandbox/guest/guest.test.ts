import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Duplex } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeFrame, FrameReader, fromGuest, text, texts, toGuest, u8, u32, u64 } from './frames.ts';
import { GuestLink } from './link.ts';

const native = path.resolve(import.meta.dirname, '../../../native');

/** Small, quick and the same every time; a failing seed can be run again. */
function randomBytes(seed: number): (size: number) => Buffer {
  let state = seed;
  return (size) => {
    const bytes = Buffer.alloc(size);
    for (let i = 0; i < size; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      bytes[i] = state >>> 24;
    }
    return bytes;
  };
}

describe('the guest', () => {
  let folder: string;
  let guest: string;
  beforeAll(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'scriptorium-guest-'));
    guest = path.join(folder, 'guest');
    const checks = ['-O1', '-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
    execFileSync('cc', [...checks, '-Wall', '-Wextra', '-Werror', '-o', guest, path.join(native, 'guest.c')]);
  }, 60_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** How the guest ends after these bytes and the end of its socket. Anything a sanitizer finds is exit code 99. */
  async function endAfter(bytes: Buffer): Promise<number | string> {
    const env = {
      ASAN_OPTIONS: 'exitcode=99:detect_leaks=0',
      UBSAN_OPTIONS: 'exitcode=99',
      PATH: '/usr/bin:/bin',
    };
    const child = spawn(guest, ['--subreaper'], {
      cwd: folder,
      env,
      stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    });
    const socket = child.stdio[3] as Duplex;
    socket.on('error', () => {});
    socket.resume();
    const ended = new Promise<number | string>((resolve) =>
      child.once('exit', (code, signal) => resolve(code ?? signal ?? '')),
    );
    socket.end(bytes);
    return ended;
  }

  it('ends when its socket ends', async () => {
    expect(await endAfter(Buffer.alloc(0))).toBe(0);
  });

  it('gives up on random bytes without reading or writing where it should not', async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const random = randomBytes(seed);
      expect([seed, await endAfter(random(1 + seed * 37))]).toEqual([seed, 71]);
    }
  });

  it('gives up on well-formed frames with hostile payloads, of every type', async () => {
    const types = Object.values(toGuest).filter((type) => type !== toGuest.kill && type !== toGuest.discard);
    for (const type of types)
      for (let seed = 1; seed <= 6; seed++) {
        const random = randomBytes(seed * 1000 + type);
        const code = await endAfter(encodeFrame(type, seed, [random(seed * 9)]));
        expect([type, seed, code === 0 || code === 71]).toEqual([type, seed, true]);
      }
  });

  it('gives up on lengths that do not fit: of the frame, of a string, of a list', async () => {
    const lie = Buffer.from([0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0]);
    expect(await endAfter(lie)).toBe(71);
    expect(await endAfter(Buffer.from([4, 0, 0, 0, 1, 0, 0, 0, 0]))).toBe(71);
    const longString = Buffer.concat([u32(0xffff_ffff), Buffer.from('x')]);
    expect(await endAfter(encodeFrame(toGuest.stat, 1, [longString]))).toBe(71);
    expect(await endAfter(encodeFrame(toGuest.stat, 1, [u32(3), Buffer.from('a\0b')]))).toBe(71);
    expect(await endAfter(encodeFrame(toGuest.stat, 1, [text('/'), Buffer.from('more')]))).toBe(71);
    const manyArguments = Buffer.concat([u32(100_000), text('x')]);
    expect(await endAfter(encodeFrame(toGuest.spawn, 1, [u8(0), u32(0), text('/'), manyArguments]))).toBe(71);
    expect(
      await endAfter(encodeFrame(toGuest.spawn, 1, [u8(0), u32(0), text('/'), texts([]), texts([])])),
    ).toBe(71);
    expect(await endAfter(encodeFrame(toGuest.putData, 1, [Buffer.from('x')]))).toBe(71);
  });

  it('does every file operation right under the sanitizers, on paths of every length', async () => {
    const frames: Buffer[] = [];
    let id = 10;
    for (const length of [1, 100, 4000, 4031, 4032, 4033, 4095, 4096, 5000]) {
      const long = `${folder}/${'x/'.repeat(length / 2)}y`;
      frames.push(
        encodeFrame(toGuest.stat, id++, [text(long)]),
        encodeFrame(toGuest.hash, id++, [text(long)]),
      );
      const put = id++;
      frames.push(
        encodeFrame(toGuest.putBegin, put, [u32(0o644), u8(0), Buffer.alloc(32), u32(put), text(long)]),
        encodeFrame(toGuest.putData, put, [Buffer.from('content')]),
        encodeFrame(toGuest.putCommit, put),
        encodeFrame(toGuest.read, id++, [u64(0), u32(1 << 20), text(long)]),
        encodeFrame(toGuest.remove, id++, [u8(0), Buffer.alloc(32), text(long)]),
        encodeFrame(toGuest.walk, id++, [u32(1000), u32(64), text(folder), texts(['none'])]),
      );
    }
    for (const odd of ['', 'relative', '/', '/.', '//', '/..', `${folder}/`])
      frames.push(
        encodeFrame(toGuest.putBegin, id, [u32(0), u8(1), Buffer.alloc(32), u32(1), text(odd)]),
        encodeFrame(toGuest.putCommit, id++),
        encodeFrame(toGuest.remove, id++, [u8(1), Buffer.alloc(32), text(odd)]),
      );
    expect(await endAfter(Buffer.concat(frames))).toBe(0);
    expect(readdirSync(folder)).toContain('guest');
  });

  it('runs, feeds, credits, discards and kills under the sanitizers', async () => {
    const spawnOf = (script: string, credit: number): Buffer[] => [
      u8(0),
      u32(credit),
      text('/'),
      texts(['/bin/sh', '-c', script]),
      texts(['A=1']),
    ];
    const frames = [
      encodeFrame(toGuest.stdin, 1, [Buffer.alloc(200_000, 'x')]),
      encodeFrame(toGuest.spawn, 1, spawnOf('cat; cat /dev/zero | head -c 500000 >&9', 1000)),
      encodeFrame(toGuest.credit, 1, [u32(100_000)]),
      encodeFrame(toGuest.spawn, 2, spawnOf('yes & yes', 50)),
      encodeFrame(toGuest.discard, 2),
      encodeFrame(toGuest.kill, 2),
      encodeFrame(toGuest.kill, 77),
      encodeFrame(toGuest.credit, 77, [u32(1)]),
    ];
    expect(await endAfter(Buffer.concat(frames))).toBe(0);
  });
});

describe('the host, faced with a hostile guest', () => {
  class FakeGuest extends Duplex {
    override _read(): void {}
    override _write(_chunk: Buffer, _encoding: string, done: () => void): void {
      done();
    }
    say(bytes: Buffer): void {
      this.push(bytes);
    }
  }

  const deaf = { onOutput: () => {}, onExit: () => {}, onGone: () => {} };
  const anything = { argv: ['x'], cwd: '/', env: [], stdin: null, mergeStderr: false, creditBytes: 1 };
  const hello = encodeFrame(fromGuest.hello, 0, [u32(1), u32(1)]);

  async function reasonAfter(...frames: Buffer[]): Promise<string> {
    const guest = new FakeGuest();
    const link = new GuestLink(guest);
    guest.say(hello);
    await link.ready;
    link.spawn(anything, deaf);
    const asked = link.request(toGuest.stat, [text('/')]).catch((error: Error) => error.name);
    for (const frame of frames) guest.say(frame);
    const reason = await link.ended;
    expect(await asked).toBe('LinkEnded');
    return reason;
  }

  it.each([
    ['an unknown type', encodeFrame(200, 1)],
    ['output of a call that is not', encodeFrame(fromGuest.output, 99, [u8(0)])],
    ['a stream that is not', encodeFrame(fromGuest.output, 1, [u8(3)])],
    ['an ending that is not', encodeFrame(fromGuest.exit, 1, [u8(9), u32(0), u64(0)])],
    ['an ending cut short', encodeFrame(fromGuest.exit, 1, [u8(0)])],
    ['a call gone before its end', encodeFrame(fromGuest.gone, 1)],
    ['an answer to nothing', encodeFrame(fromGuest.reply, 99, [u32(0)])],
    ['a frame of four gigabytes', Buffer.from([0xff, 0xff, 0xff, 0xff, 70, 0, 0, 0, 0])],
    ['a frame without a type', Buffer.from([4, 0, 0, 0, 70, 0, 0, 0, 0])],
  ])('ends the sandbox at %s', async (_, frame) => {
    expect(await reasonAfter(frame)).toContain('broke the protocol');
  });

  it('ends the sandbox at a second ending of a call', async () => {
    const exit = encodeFrame(fromGuest.exit, 1, [u8(0), u32(0), u64(0)]);
    expect(await reasonAfter(exit, exit)).toContain('went on after its end');
  });

  it('bounds what an answer in parts may grow to', async () => {
    const part = encodeFrame(fromGuest.part, 2, [Buffer.alloc(1 << 20)]);
    expect(await reasonAfter(...Array.from({ length: 70 }, () => part))).toContain('too long');
  });

  it('survives random bytes in any cut', async () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = randomBytes(seed);
      const guest = new FakeGuest();
      const link = new GuestLink(guest);
      guest.say(hello);
      await link.ready;
      link.spawn(anything, deaf);
      for (let i = 0; i < 20; i++) guest.say(random(1 + (seed % 13)));
      guest.destroy();
      await link.ended;
    }
  });

  it('puts frames together again from any cut', () => {
    const frames = [
      encodeFrame(1, 1, [Buffer.alloc(1000, 'a')]),
      encodeFrame(2, 2),
      encodeFrame(3, 3, [Buffer.from('b')]),
    ];
    const bytes = Buffer.concat(frames);
    for (const size of [1, 2, 3, 7, 9, 100, 5000]) {
      const reader = new FrameReader();
      const seen: number[] = [];
      for (let at = 0; at < bytes.length; at += size)
        for (const frame of reader.push(bytes.subarray(at, at + size)))
          seen.push(frame.type, frame.payload.length);
      expect(seen).toEqual([1, 1000, 2, 0, 3, 1]);
    }
  });
});
