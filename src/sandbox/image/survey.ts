/**
 * The program that looks at a finished layer. It runs inside a sandbox in which nothing of the build is left (S3), with
 * our Node, and is handed over as text.
 *
 * What it does: takes special files away, takes setuid, setgid and write bits off, makes everything readable by the
 * sessions' other users, and says the digest of what is there. A name that is no UTF-8 is refused: it could not be told
 * from another one.
 */

export type Survey = {
  /** sha256 (hex) over every path, mode, link and content, in the order of the paths' bytes. */
  digest: string;
  files: number;
  sizeBytes: number;
  /** Paths of what was taken away: devices, sockets, pipes. */
  removed: string[];
  /** Paths that were setuid or setgid. */
  disarmed: string[];
};

const program = `
import { createHash } from 'node:crypto';
import { chmodSync, lstatSync, openSync, readSync, closeSync, readdirSync, readlinkSync, unlinkSync } from 'node:fs';
const root = process.argv[1], most = { files: Number(process.argv[2]), bytes: Number(process.argv[3]) };
const out = { digest: '', files: 0, sizeBytes: 0, removed: [], disarmed: [] };
const whole = createHash('sha256');
const seen = new Set();
const buffer = Buffer.allocUnsafe(1 << 20);
function fail(message) { process.stdout.write(JSON.stringify({ problem: message })); process.exit(0); }
function say(...parts) { whole.update(JSON.stringify(parts) + '\\n'); }
function contentOf(path) {
  const hash = createHash('sha256');
  const fd = openSync(path, 'r');
  for (let got; (got = readSync(fd, buffer, 0, buffer.length, null)) > 0; ) hash.update(buffer.subarray(0, got));
  closeSync(fd);
  return hash.digest('hex');
}
function walk(path, shown) {
  // A folder is opened before it is read: the build may have closed it.
  chmodSync(path, 0o755);
  const names = readdirSync(path, { encoding: 'buffer' }).sort(Buffer.compare);
  for (const raw of names) {
    const name = raw.toString('utf8');
    if (!Buffer.from(name, 'utf8').equals(raw)) fail('a file name below ' + (shown || '/') + ' is not UTF-8');
    const at = path + '/' + name, where = shown + '/' + name;
    const stat = lstatSync(at);
    if (++out.files > most.files) fail('more than ' + most.files + ' files');
    if (stat.isSymbolicLink()) { say('link', where, readlinkSync(at)); continue; }
    if (stat.isDirectory()) { say('folder', where); walk(at, where); continue; }
    if (!stat.isFile()) { unlinkSync(at); if (out.removed.length < 100) out.removed.push(where); continue; }
    if ((stat.mode & 0o6000) !== 0 && out.disarmed.length < 100) out.disarmed.push(where);
    const mode = (stat.mode & 0o111) === 0 ? 0o444 : 0o555;
    chmodSync(at, mode);
    // Before it is read: a file with a hole of a terabyte costs nothing to make.
    if (stat.size > most.bytes) fail(where + ' is larger than ' + most.bytes + ' bytes');
    const twin = stat.dev + ':' + stat.ino;
    if (!seen.has(twin)) { if (stat.nlink > 1) seen.add(twin); out.sizeBytes += stat.size; }
    if (out.sizeBytes > most.bytes) fail('more than ' + most.bytes + ' bytes');
    say('file', where, mode, stat.size, contentOf(at));
  }
}
walk(root, '');
out.digest = whole.digest('hex');
process.stdout.write(JSON.stringify(out));
`;

export const mostFiles = 1_000_000;

/** The command; its whole output is a `Survey`, or `{ problem }`. */
export function surveyCommand(folder: string, mostBytes: number): string[] {
  const args = [folder, String(mostFiles), String(mostBytes)];
  return ['/opt/scriptorium/bin/node', '--input-type=module', '--eval', program, ...args];
}

/** What it printed. Null where that is nothing we know: its sandbox was no good. */
export function readSurvey(text: string): Survey | { problem: string } | null {
  let said: unknown;
  try {
    said = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof said !== 'object' || said === null) return null;
  if ('problem' in said && typeof said.problem === 'string') return { problem: said.problem };
  const survey = said as Survey;
  return /^[0-9a-f]{64}$/.test(survey.digest) ? survey : null;
}
