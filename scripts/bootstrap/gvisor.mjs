// Opt-in: gVisor's runsc into native/build/, for environments that ask for it. Nothing is installed into the system.
//
// Debian 13's package, whose program is static and runs on any distribution; Debian 12's own is too old for this use
// (no systrap). It comes from the mirror that this machine's apt already uses, by exact version and sha256.

import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { BootstrapError, findProgram, output, run, stampMatches, writeStamp } from './machine.mjs';

const VERSION = '0.0~20240729.0-4+b7';
const POOL = 'pool/main/g/golang-gvisor-gvisor';
/** By Node's name of the processor. */
const PACKAGES = {
  x64: { arch: 'amd64', sha256: '3c25a5130dfac2f71237d5baad56ac86a255de87a0400f11b36a555156dc325a' },
  arm64: { arch: 'arm64', sha256: '8e13e0625a094f962da3edcaf81ab0ed779726b6335e385a8148919f2c217c8e' },
};
const APT_HELPER = '/usr/lib/apt/apt-helper';

export function gvisorIsFresh(root, wanted = PACKAGES[process.arch]) {
  return existsSync(programOf(root)) && stampMatches(root, 'gvisor', wanted?.sha256 ?? '');
}

/**
 * Downloads, verifies and unpacks the program. Throws a BootstrapError that says what to do where that cannot be.
 * @param {string} root
 * @param {(line: string) => void} say
 * @param {{ arch: string, sha256: string }} [wanted]
 * @param {string} [helper] apt's own downloader
 */
export function installGvisor(root, say, wanted = PACKAGES[process.arch], helper = APT_HELPER) {
  if (gvisorIsFresh(root, wanted)) return;
  if (process.platform !== 'linux' || wanted === undefined)
    throw new BootstrapError(`gVisor runs on Linux on ${Object.keys(PACKAGES).join(' and ')} only`);
  const folder = path.join(root, 'native', 'build', `gvisor.${process.pid}`);
  mkdirSync(folder, { recursive: true });
  try {
    const file = path.join(folder, 'runsc.deb');
    download(wanted, file, say, helper);
    const found = createHash('sha256').update(readFileSync(file)).digest('hex');
    if (found !== wanted.sha256)
      throw new BootstrapError(
        `the package of gVisor is not the pinned one: sha256 ${found}, not ${wanted.sha256}`,
      );
    if (run('dpkg-deb', ['-x', file, folder]) !== 0)
      throw new BootstrapError('the package of gVisor could not be unpacked, see above');
    // Renamed into place, because a running sandbox may hold the old program open.
    const fresh = path.join(folder, 'runsc');
    copyFileSync(path.join(folder, 'usr', 'bin', 'runsc'), fresh);
    renameSync(fresh, programOf(root));
    writeStamp(root, 'gvisor', wanted.sha256);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function programOf(root) {
  return path.join(root, 'native', 'build', 'runsc');
}

function download({ arch, sha256 }, file, say, helper) {
  const name = `runsc_${VERSION}_${arch}.deb`;
  const byHand = `put the program "runsc" of Debian's package ${name} at native/build/runsc`;
  if (!existsSync(helper) || findProgram('dpkg-deb') === undefined)
    throw new BootstrapError(`gVisor comes by apt, which is not here; elsewhere ${byHand}`);
  const mirror = debianMirror();
  if (mirror === undefined)
    throw new BootstrapError(`apt has no mirror of Debian configured to take gVisor from: ${byHand}`);
  say(`downloading gVisor (${name}, 7 MB)`);
  const escaped = name.replaceAll('~', '%7e').replaceAll('+', '%2b');
  const quiet = ['-qq', '-o', 'APT::Sandbox::User=root'];
  const args = [...quiet, 'download-file', `${mirror}${POOL}/${escaped}`, file, `SHA256:${sha256}`];
  if (run(helper, args) !== 0)
    throw new BootstrapError(
      `gVisor could not be downloaded from the machine's mirror, see above; or ${byHand}`,
    );
}

/** The one that the machine's own packages come from, of whatever release: the pool is of all of them. */
function debianMirror() {
  const listed = output('apt-get', ['indextargets', '--format', '$(LABEL)\t$(COMPONENT)\t$(REPO_URI)']) ?? '';
  const line = listed.split('\n').find((candidate) => candidate.startsWith('Debian\tmain\t'));
  return line?.split('\t')[2];
}
