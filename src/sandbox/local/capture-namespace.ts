/**
 * A network namespace with no way out but its two sockets, held by a process of its own (native/netprep-hold.h), which
 * presents them to the gateway (S2).
 *
 * Promises: the holder ends with this process, however that ends, and with `stop` (S5); a namespace that cannot be
 * made, or sockets that nobody takes, are said in words and never worked around (S4).
 *
 * Where the host is root the holder has a uid of its own, no session's: whoever owns the namespace's user namespace has
 * every right over it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import type { Programs } from '../backend.ts';

export type CaptureProblem = { problem: string };

type Waiting = { number: number; resolve(why: string | null): void; away: string | null };

/** No session's (host.ts), not the gateway's and not the probe's. */
const HOLDER_UID = 199_998;
const FOLDER_FD = 4;
const START_MS = 10_000;
const PRESENT_MS = 10_000;
const MAX_TEXT = 4096;
const isRoot = process.getuid?.() === 0;

export class CaptureNamespace {
  readonly #child: ChildProcess;
  readonly #ended = Promise.withResolvers<string>();
  readonly #ready = Promise.withResolvers<void>();
  #hasEnded = false;
  #said = '';
  #line = '';
  #number = 0;
  #waiting: Waiting | null = null;
  /** Of the ticket that the gateway took last; null where it has refused one since. */
  #presented: string | null = null;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#ready.promise.catch(() => {});
    child.once('error', (error) => this.#end(error.message));
    child.once('close', () => this.#end(this.#said.trim() || 'it ended'));
    child.stdin?.on('error', () => {});
    (child.stdout as Readable).setEncoding('utf8').on('data', (text: string) => this.#receive(text));
    (child.stderr as Readable).setEncoding('utf8').on('data', (text: string) => {
      this.#said = (this.#said + text).slice(0, MAX_TEXT);
    });
  }

  /** `folder` is the gateway's. Settles when everything in the namespace is in place. */
  static async start(programs: Programs, folder: string): Promise<CaptureNamespace | CaptureProblem> {
    if (programs.nft === null) return { problem: `nft is not installed. ${nftRemedy}` };
    const fd = String(FOLDER_FD);
    const args = ['--rlimit', 'core=0', '--folder', fd, folder];
    if (isRoot) args.push('--uid', String(HOLDER_UID));
    args.push('--', programs.netprep, 'hold', fd, programs.nft);
    const made = new CaptureNamespace(spawn(programs.launch, args, { env: {}, cwd: '/', stdio: 'pipe' }));
    const timer = setTimeout(() => made.#end('it did not get ready'), START_MS);
    try {
      await made.#ready.promise;
      return made;
    } catch (error) {
      await made.stop();
      return { problem: `${(error as Error).message}. ${captureHint((error as Error).message)}`.trim() };
    } finally {
      clearTimeout(timer);
    }
  }

  get pid(): number | null {
    return this.#child.pid ?? null;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Settles with the reason. What was captured until then fails from then on. */
  get ended(): Promise<string> {
    return this.#ended.promise;
  }

  /** Whether the gateway has taken this ticket and has not refused it since. */
  isPresented(ticket: string): boolean {
    return this.#presented === ticket;
  }

  /** Hands the sockets to the gateway. Null when it has them, else why not. One at a time. */
  async present(ticket: string): Promise<string | null> {
    if (this.#hasEnded) return 'the capture namespace has ended';
    const number = ++this.#number;
    const { promise, resolve } = Promise.withResolvers<string | null>();
    const waiting: Waiting = { number, resolve, away: null };
    this.#waiting?.resolve('another ticket was presented');
    this.#waiting = waiting;
    const timer = setTimeout(
      () => resolve(`the gateway does not answer (${waiting.away ?? 'it took too long'})`),
      PRESENT_MS,
    );
    (this.#child.stdin as Writable).write(`present ${number} ${ticket}\n`);
    const why = await promise;
    clearTimeout(timer);
    if (this.#waiting === waiting) this.#waiting = null;
    this.#presented = why === null ? ticket : null;
    return why;
  }

  /** Arguments with which a launcher joins it, while the holder is known to live: until we hear of its end its number is its own. */
  join(): string[] | CaptureProblem {
    const { pid } = this.#child;
    if (this.#hasEnded || pid === undefined)
      return { problem: 'the capture namespace cannot be joined: it has ended' };
    return ['--join-of', String(pid), String(isRoot ? HOLDER_UID : process.getuid?.())];
  }

  async stop(): Promise<void> {
    this.#end('it was stopped');
    const { exitCode, signalCode, pid } = this.#child;
    if (exitCode !== null || signalCode !== null || pid === undefined) return;
    const gone = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await gone;
  }

  #end(reason: string): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#presented = null;
    this.#ready.reject(new Error(reason));
    this.#waiting?.resolve(`the capture namespace has ended: ${reason}`);
    this.#ended.resolve(reason);
  }

  #receive(text: string): void {
    const lines = (this.#line + text).split('\n');
    this.#line = lines.pop() ?? '';
    for (const line of lines) this.#hear(line);
  }

  #hear(line: string): void {
    if (line === 'ready') this.#ready.resolve();
    const [, word, number, why] = /^(presented|refused|away) (\d+) ?(.*)$/.exec(line) ?? [];
    if (Number(number) !== this.#number) return;
    const waiting = this.#waiting;
    if (word === 'refused') this.#presented = null;
    if (waiting === null) return;
    if (word === 'presented') waiting.resolve(null);
    else if (word === 'refused') waiting.resolve(`the gateway refused the ticket: ${why}`);
    else waiting.away = why ?? null;
  }
}

export const nftRemedy = 'Install the package "nftables".';

/** What the holder's own words usually mean; empty where they mean something else. */
export function captureHint(problem: string): string {
  const hints: [RegExp, string][] = [
    [
      /user and a network namespace|uid_map|setgroups/,
      'Unprivileged user namespaces seem to be off: allow them (sysctl kernel.unprivileged_userns_clone=1, or an ' +
        'AppArmor profile with "userns,").',
    ],
    [/nft/, 'Load the kernel modules nf_tables and nft_tproxy, or use a kernel that has them.'],
    [/cannot open/, "The gateway's folder is not there: start the gateway first."],
  ];
  return hints.find(([pattern]) => pattern.test(problem))?.[1] ?? '';
}
