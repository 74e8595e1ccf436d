/**
 * A tree with everything that copies of trees get wrong, and its description; both are scripts for the Node of a sandbox.
 * Made of links, hard links, modes, times to the nanosecond, xattrs, holes, nested repositories, empty folders, odd names.
 */

const python = (script: string): string =>
  `try { require('node:child_process').execFileSync('/usr/bin/python3', ['-c', ${JSON.stringify(script)}], { stdio: 'ignore' }) } catch {}`;

/** Where there is no python3, there are no xattrs in the tree: no other program of a bare system sets them. */
export const makeTree = `
const fs = require('node:fs');
process.chdir('/workspace');
fs.mkdirSync('deep/er/est', { recursive: true });
fs.mkdirSync('empty/one', { recursive: true });
fs.mkdirSync('nested/.git/objects', { recursive: true });
fs.writeFileSync('nested/.git/HEAD', 'ref: refs/heads/main\\n');
fs.writeFileSync('deep/er/est/file', 'content');
fs.linkSync('deep/er/est/file', 'hard');
fs.symlinkSync('deep/er', 'soft');
fs.symlinkSync('/usr/bin/env', 'absolute');
fs.symlinkSync('nowhere/at/all', 'dangling');
for (const [name, mode] of [['run', 0o755], ['secret', 0o600], ['closed', 0], ['group', 0o664]]) {
  fs.writeFileSync(name, name);
  fs.chmodSync(name, mode);
}
const holes = fs.openSync('holes', 'w');
fs.writeSync(holes, 'start', 0);
fs.writeSync(holes, 'end', 8 << 20);
fs.closeSync(holes);
for (const name of ['-rf', ' ', 'two\\nlines', 'gr\\u00fc\\u00df', '*', 'x'.repeat(255)]) fs.writeFileSync(name, 'odd');
fs.writeFileSync(Buffer.from([0x6c, 0xff, 0xfe]), 'no utf-8');
${python("import os; os.setxattr('/workspace/run', 'user.note', b'kept'); os.setxattr('/workspace/deep', 'user.folder', b'too')")}
${python("import os; os.utime('/workspace/secret', ns=(1, 1234567890123456789)); os.utime('/workspace/empty', ns=(1, 987654321))")}
fs.writeFileSync('/home/agent/.profile', 'home');
fs.writeFileSync('/mnt/session/outputs/result', 'out');
fs.chmodSync('deep', 0o700);
`;

/** Prints one line a file: all that must be the same. Sizes on disk only as "has holes". */
export const describeTree = `
const fs = require('node:fs');
const crypto = require('node:crypto');
const lines = [];
let xattrs = {};
try {
  xattrs = JSON.parse(require('node:child_process').execFileSync('/usr/bin/python3', ['-c',
    'import os,json;print(json.dumps({p:{n:os.getxattr(p,n).decode() for n in os.listxattr(p)} for p in ["/workspace/run","/workspace/deep"]}))']).toString());
} catch {}
const inodes = new Map();
function look(file) {
  const stat = fs.lstatSync(file, { bigint: true });
  const name = file.toString('latin1');
  const inode = String(stat.ino);
  const same = stat.isDirectory() || stat.nlink < 2n ? '' : inodes.get(inode) ?? (inodes.set(inode, name), name);
  let body = '';
  if (stat.isSymbolicLink()) body = fs.readlinkSync(file);
  else if (stat.isFile() && (stat.mode & 0o400n) !== 0n)
    body = crypto.createHash('sha256').update(fs.readFileSync(file)).digest('hex').slice(0, 16);
  const holes = stat.isFile() && stat.blocks * 512n < stat.size / 2n && stat.size > 65536n;
  lines.push(JSON.stringify([name, stat.mode.toString(8), stat.uid === BigInt(process.getuid()), String(stat.isDirectory() ? 0 : stat.size), String(stat.mtimeNs), same, body, holes, xattrs[name] ?? null]));
  if (stat.isDirectory())
    for (const entry of fs.readdirSync(file, { encoding: 'buffer' }).sort(Buffer.compare))
      look(Buffer.concat([file, Buffer.from('/'), entry]));
}
for (const root of ['/workspace', '/home/agent', '/mnt/session/outputs']) look(Buffer.from(root));
console.log(lines.join('\\n'));
`;
