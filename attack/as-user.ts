/**
 * The same attack as an ordinary user: as root, this program starts itself again in a mount namespace of its own, where the
 * checkout lies at a place that every user can enter, wherever it really is.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { CannotAttack } from './stage.ts';

/** Nobody's in particular, and no session's. */
const uid = 65_533;
/** A folder that every machine has; only the namespace sees what is mounted there. */
const place = '/mnt';

/** Its exit code. */
export async function rerunAsUser(args: readonly string[]): Promise<number> {
  if (process.getuid?.() !== 0) throw new CannotAttack('--as-user is for root; without it, you are the user');
  const extension = path.extname(import.meta.filename);
  const root = packageRoot();
  const program = path.join(place, path.relative(root, path.join(import.meta.dirname, `main${extension}`)));
  const node = path.relative(root, process.execPath);
  const executable = node.startsWith('..') ? process.execPath : path.join(place, node);
  const home = mkdtempSync('/tmp/scriptorium-attack-home-');
  const script = [
    `mount --bind "$1" ${place}; chown ${uid}:${uid} "$2"; shift 2`,
    `exec setpriv --reuid ${uid} --regid ${uid} --clear-groups -- "$@"`,
  ].join('\n');
  const flags = ['--disable-warning=ExperimentalWarning'];
  const command = ['sh', '-ec', script, 'sh', root, home, executable, ...flags, program, ...args];
  const child = spawn('unshare', ['--mount', '--propagation', 'private', ...command], {
    cwd: '/',
    env: { PATH: process.env.PATH ?? '', HOME: home, LANG: 'C.UTF-8' },
    stdio: 'inherit',
  });
  try {
    const [code] = (await once(child, 'exit')) as [number | null];
    return code ?? 1;
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

/** Of the checkout: this file's folder lies in it, or in its dist/. */
function packageRoot(): string {
  const above = path.resolve(import.meta.dirname, '..');
  return path.basename(above) === 'dist' ? path.dirname(above) : above;
}
