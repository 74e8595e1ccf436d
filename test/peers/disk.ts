/**
 * A disk whose syncs can be made to fail, and that can lose its power, for processes started with `env`. What counts as
 * being on it is what they synced (`disk.c`). `cut` lays out what would be found after the power is back: in the worst case
 * that alone; with dice, any mixture with what was written and not synced, sector by sector, name by name.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const sectorBytes = 512;

type Name = { isFolder: boolean; key: string; mode: number; uid: number };
type Names = Map<string, Name>;

/** True: this unsynced change reached the disk. */
export type Dice = () => boolean;
const worstCase: Dice = () => false;

/** The same throws for the same seed (mulberry32). */
export function diceOf(seed: number): Dice {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) & 1) === 1;
  };
}

export function hasCompiler(): boolean {
  try {
    execFileSync('cc', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

export class Disk {
  /** Here the processes write. */
  readonly root: string;
  readonly folder: string;
  readonly #rootKey: string;

  constructor() {
    this.folder = realpathSync(mkdtempSync(path.join(tmpdir(), 'scriptorium-disk-')));
    this.root = path.join(this.folder, 'root');
    mkdirSync(this.root);
    mkdirSync(this.#file('shadow'));
    this.#rootKey = nameOf(this.root).key;
    const source = path.join(import.meta.dirname, 'disk.c');
    execFileSync('cc', ['-O1', '-shared', '-fPIC', '-o', this.#file('disk.so'), source, '-ldl', '-lpthread']);
  }

  #file(name: string): string {
    return path.join(this.folder, name);
  }

  /** For a process on this disk. `lies`: syncs of paths with this text say yes and do nothing. */
  env(lies?: string): Record<string, string> {
    return {
      LD_PRELOAD: this.#file('disk.so'),
      DISK_ROOT: this.root,
      DISK_SHADOW: this.#file('shadow'),
      DISK_FAULTS: this.#file('faults'),
      ...(lies === undefined ? {} : { DISK_LIES: lies }),
    };
  }

  /** From now on syncs of paths with this text fail with EIO; a `$` at its end stands for the end of the path. */
  break(text: string): void {
    writeFileSync(this.#file('faults'), text);
  }

  repair(): void {
    rmSync(this.#file('faults'), { force: true });
  }

  /** Lays out in the new folder `into` what is left; `live` is where the files lie that were written, if not in `root`. */
  cut(into: string, dice: Dice = worstCase, live = this.root): void {
    mkdirSync(into);
    this.#layFolder(this.#rootKey, live, into, dice);
  }

  #layFolder(key: string, live: string, into: string, dice: Dice): void {
    const synced = this.#namesOf(key);
    const written = new Map<string, Name>();
    for (const name of existsSync(live) ? readdirSync(live) : []) {
      const stats = lstatSync(path.join(live, name));
      if (stats.isFile() || stats.isDirectory()) written.set(name, nameOf(path.join(live, name)));
    }
    for (const name of new Set([...synced.keys(), ...written.keys()])) {
      const [before, after] = [synced.get(name), written.get(name)];
      const kept = before?.key === after?.key || dice() ? after : before;
      if (kept === undefined) continue;
      // Bytes that were only written can be looked up where the name still leads to them.
      const at = kept.key === after?.key ? path.join(live, name) : '';
      const target = path.join(into, name);
      if (kept.isFolder) mkdirSync(target);
      else writeFileSync(target, this.#bytesOf(kept.key, at, dice));
      if (kept.isFolder) this.#layFolder(kept.key, at, target, dice);
      chmodSync(target, kept.mode);
      if (process.getuid?.() === 0) lchownSync(target, kept.uid, kept.uid);
    }
  }

  #namesOf(key: string): Names {
    const list = this.#file(`shadow/d${key}`);
    if (!existsSync(list)) return new Map();
    const lines = readFileSync(list, 'utf8').split('\n').filter(Boolean);
    return new Map(
      lines.map((line): [string, Name] => {
        const [kind = '', child = '', mode = '', uid = '', ...name] = line.split(' ');
        const described = {
          isFolder: kind === 'd',
          key: child,
          mode: Number.parseInt(mode, 8),
          uid: Number(uid),
        };
        return [name.join(' '), described];
      }),
    );
  }

  #bytesOf(key: string, live: string, dice: Dice): Buffer {
    const file = this.#file(`shadow/f${key}`);
    const synced = existsSync(file) ? readFileSync(file) : Buffer.alloc(0);
    if (live === '' || dice === worstCase) return synced;
    const written = readFileSync(live);
    const size = dice() ? written.length : synced.length;
    const bytes = Buffer.alloc(size);
    synced.copy(bytes);
    for (let at = 0; at < size; at += sectorBytes)
      if (dice()) written.copy(bytes, at, at, Math.min(at + sectorBytes, size));
    return bytes;
  }

  /** Removes everything, images below `folder` too. */
  discard(): void {
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}

/** As disk.c names it. */
function nameOf(file: string): Name {
  const { ino, birthtimeNs, mode, uid } = lstatSync(file, { bigint: true });
  const key = `${ino}.${birthtimeNs / 1_000_000_000n}.${birthtimeNs % 1_000_000_000n}`;
  const isFolder = lstatSync(file).isDirectory();
  return { isFolder, key, mode: Number(mode & 0o7777n), uid: Number(uid) };
}
