/**
 * A mount namespace of the host's own, where disks are mounted: nobody else on the machine sees them, and mounts and loop
 * devices go when the last process that uses them is gone, however it ends (S5).
 *
 * The namespace is held by a descriptor of this process alone. Mounts of the machine come into it; none goes out.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { DiskRefused } from './disk.ts';
import { needTool, runTool } from './tool.ts';

const MOUNT_TRIES = 40;
const MOUNT_PAUSE_MS = 100;

export class MountSpace {
  readonly #launch: string;
  readonly #fd: number;

  private constructor(launch: string, fd: number) {
    this.#launch = launch;
    this.#fd = fd;
  }

  /** For the launcher's --mounts. */
  get file(): string {
    return `/proc/${process.pid}/fd/${this.#fd}`;
  }

  static async open(launch: string): Promise<MountSpace> {
    const unshare = needTool('unshare', 'util-linux');
    const args = ['--mount', '--propagation', 'slave', '/bin/sh', '-c', 'echo ready; read line'];
    const child = spawn(unshare, args, { stdio: ['pipe', 'pipe', 'pipe'], env: {}, cwd: '/' });
    const ended = new Promise<string>((resolve) => {
      let words = '';
      child.stderr.on('data', (chunk: Buffer) => {
        words += chunk.toString();
      });
      child.once('error', (error) => resolve(error.message));
      child.once('close', () => resolve(words.trim()));
    });
    child.stdin.on('error', () => {});
    const ready = new Promise<null>((resolve) => child.stdout.once('data', () => resolve(null)));
    const problem = await Promise.race([ready, ended]);
    if (problem !== null)
      throw new DiskRefused('isolation_unavailable', `no mount namespace can be made: ${problem}`);
    const fd = openSync(`/proc/${child.pid}/ns/mnt`, 'r');
    child.stdin.end();
    await ended;
    return new MountSpace(launch, fd);
  }

  /** Runs a program with the disks in sight. */
  run(program: string, args: string[], launchArgs: string[] = []): Promise<{ stdout: string }> {
    const all = ['--mounts', this.file, ...launchArgs];
    return runTool({ launch: this.#launch, launchArgs: all, program, args });
  }

  /** Mounts a file system image. The host before us may just be letting go of it. */
  async mount(image: string, folder: string, type: string, options: string): Promise<void> {
    const mount = needTool('mount', 'util-linux');
    for (let attempt = 1; ; attempt++)
      try {
        await this.run(mount, ['-t', type, '-o', `loop,nosuid,nodev,${options}`, image, folder]);
        return;
      } catch (error) {
        const isBusy = error instanceof DiskRefused && /busy|exists|overlapping/i.test(error.message);
        if (!isBusy || attempt === MOUNT_TRIES) throw error;
        await delay(MOUNT_PAUSE_MS);
      }
  }

  /** What is mounted in it stays for as long as a sandbox has it. */
  close(): void {
    closeSync(this.#fd);
  }
}
