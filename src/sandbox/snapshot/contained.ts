/**
 * Programs that walk a session's files: in namespaces of their own, where nothing is to be seen but /usr and the folders
 * they are given, as the user who owns them (S3). A link leads nowhere; there is no network, and nothing to talk to.
 *
 * Inside they are root of that one user, so that files which their owner closed to himself are copied, too.
 */
import { lstatSync, readlinkSync } from 'node:fs';
import type { Programs } from '../backend.ts';
import { DiskRefused } from './disk.ts';
import { runTool } from './tool.ts';

export type Containment = {
  programs: Programs;
  /** Of the launcher: where the folders are mounted. */
  mounts: string | null;
  /** Owner of the folders; null where the host is not root. */
  uid: number | null;
  /** At /NAME. */
  folders: { from: string; name: string; readOnly: boolean }[];
  stdin?: number;
  stdout?: number;
};

const STAGE = '/mnt';
const capabilities = ['CAP_DAC_OVERRIDE', 'CAP_DAC_READ_SEARCH', 'CAP_FOWNER', 'CAP_FSETID', 'CAP_CHOWN'];

/** Runs a shell script; its arguments are $1 and so on. */
export function runContained(
  about: Containment,
  script: string,
  args: string[] = [],
): Promise<{ stdout: string; stderr: string }> {
  const { programs, mounts, uid, folders } = about;
  if (programs.bwrap === null)
    throw new DiskRefused('isolation_unavailable', 'bubblewrap is not installed: install "bubblewrap"');
  const launchArgs = mounts === null ? [] : ['--mounts', mounts];
  if (uid !== null) {
    launchArgs.push('--stage', STAGE, '--uid', String(uid));
    for (const { from, name, readOnly } of folders)
      launchArgs.push(readOnly ? '--ro-bind' : '--bind', from, name);
  }
  const binds = folders.flatMap(({ from, name, readOnly }) => [
    readOnly ? '--ro-bind' : '--bind',
    uid === null ? from : `${STAGE}/${name}`,
    `/${name}`,
  ]);
  const bwrap = [
    ...['--unshare-all', '--unshare-user', '--uid', '0', '--gid', '0', '--die-with-parent', '--new-session'],
    ...capabilities.flatMap((name) => ['--cap-add', name]),
    ...systemMounts(),
    ...['--proc', '/proc', '--dev', '/dev', '--tmpfs', '/tmp'],
    ...binds,
    ...['--chdir', '/', '--setenv', 'PATH', '/usr/bin:/bin', '--setenv', 'LC_ALL', 'C.UTF-8'],
    ...['--', '/bin/sh', '-c', script, 'sh', ...args],
  ];
  const { stdin, stdout } = about;
  return runTool({
    ...{ launch: programs.launch, launchArgs, program: programs.bwrap, args: bwrap },
    ...(stdin === undefined ? {} : { stdin }),
    ...(stdout === undefined ? {} : { stdout }),
  });
}

function systemMounts(): string[] {
  const args = ['--ro-bind', '/usr', '/usr'];
  for (const place of ['/bin', '/sbin', '/lib', '/lib64']) {
    const found = lstatSync(place, { throwIfNoEntry: false });
    if (found?.isSymbolicLink()) args.push('--symlink', readlinkSync(place), place);
    else if (found?.isDirectory()) args.push('--ro-bind', place, place);
  }
  return args;
}
