// The opt-in download of gVisor against a fake mirror: what is taken, what is refused, what is said.

import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { gvisorIsFresh, installGvisor } from './gvisor.mjs';

const CONTENT = 'the package\n';
const wanted = { arch: 'amd64', sha256: createHash('sha256').update(CONTENT).digest('hex') };
const searchPath = process.env.PATH ?? '';
let root = '';
let bin = '';

function fake(name: string, body: string): string {
  const file = path.join(bin, name);
  writeFileSync(file, `#!/bin/sh\necho "${name} $*" >> '${root}/calls'\n${body}\n`);
  chmodSync(file, 0o755);
  return file;
}

/** A machine with apt, whose mirror gives `content` for whatever is asked. */
function machine(content = CONTENT): string {
  fake(
    'apt-get',
    "printf 'Debian-Security\\tmain\\thttp://security.invalid/\\nDebian\\tmain\\thttp://mirror.invalid/debian/\\n'",
  );
  fake(
    'dpkg-deb',
    `/bin/mkdir -p "$3/usr/bin"; echo program > "$3/usr/bin/runsc"; /bin/chmod 755 "$3/usr/bin/runsc"`,
  );
  return fake('apt-helper', `printf '${content.replace('\n', '\\n')}' > "$6"`);
}

beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'scriptorium-gvisor-'));
  bin = path.join(root, 'bin');
  mkdirSync(bin);
  process.env.PATH = bin;
});

afterEach(() => {
  process.env.PATH = searchPath;
  rmSync(root, { recursive: true, force: true });
});

const built = (): string[] => readdirSync(path.join(root, 'native/build'));

describe.skipIf(process.platform !== 'linux')('gVisor', () => {
  it("comes once, by exact name, from the mirror of Debian's own packages and no other", () => {
    const helper = machine();
    installGvisor(root, () => {}, wanted, helper);
    expect(built()).toEqual(['runsc']);
    expect(gvisorIsFresh(root, wanted)).toBe(true);
    const calls = () => readFileSync(path.join(root, 'calls'), 'utf8').split('\n');
    const asked = calls().find((call) => call.startsWith('apt-helper'));
    expect(asked).toMatch(/ http:\/\/mirror\.invalid\/debian\/pool\/main\/\S+\/runsc_\S+%2bb7_amd64\.deb /);
    expect(asked).toContain(`SHA256:${wanted.sha256}`);
    const before = calls().length;
    installGvisor(root, () => {}, wanted, helper);
    expect(calls()).toHaveLength(before);
  });

  it('is refused where the package is another one than the pinned, and nothing of it is left', () => {
    const helper = machine('another one\n');
    expect(() => installGvisor(root, () => {}, wanted, helper)).toThrow('not the pinned one');
    expect(built()).toEqual([]);
    expect(gvisorIsFresh(root, wanted)).toBe(false);
  });

  it('says where to put the program when apt is not there, or has no mirror of Debian', () => {
    expect(() => installGvisor(root, () => {}, wanted, path.join(bin, 'none'))).toThrow('native/build/runsc');
    const helper = machine();
    fake('apt-get', '');
    expect(() => installGvisor(root, () => {}, wanted, helper)).toThrow('no mirror of Debian');
    expect(existsSync(path.join(root, 'native/build/runsc'))).toBe(false);
  });
});
