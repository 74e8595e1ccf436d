/** The model peer as its parent sees it. */
import type { ChildProcess } from 'node:child_process';
import type { FromPeer, PeerRecord } from './peer.ts';
import { lastWordsOf, peerEntry, start } from './processes.ts';

const answerMs = 300_000;

export class Peer {
  readonly url: string;
  readonly apiKey = 'bench-key';
  readonly #child: ChildProcess;
  #taken = 0;

  private constructor(child: ChildProcess, url: string) {
    this.#child = child;
    this.url = url;
  }

  static async start(): Promise<Peer> {
    const child = start(peerEntry, [], { env: { ...process.env, REHEARSAL_API_KEY: 'bench-key' } });
    const ready = await next(child, (message) => (message.type === 'ready' ? message : null));
    return new Peer(child, ready.url);
  }

  /** Resolves when a final answer was given. Ask before the message is sent. */
  done(): Promise<void> {
    return next(this.#child, (message) => (message.type === 'done' ? message : null)).then(() => {});
  }

  /** What came since the last call. Throws where a request was refused: then nothing was measured rightly. */
  async records(): Promise<PeerRecord[]> {
    const answer = next(this.#child, (message) => (message.type === 'records' ? message : null));
    this.#child.send('records');
    const { records } = await answer;
    const fresh = records.slice(this.#taken);
    this.#taken = records.length;
    const refused = fresh.find(({ problem }) => problem !== null);
    if (refused !== undefined) throw new Error(`the model peer refused a request: ${refused.problem}`);
    return fresh;
  }
}

function next<T>(child: ChildProcess, pick: (message: FromPeer) => T | null): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => end(() => reject(new Error('the model peer is silent'))), answerMs);
    const onMessage = (message: unknown): void => {
      const picked = pick(message as FromPeer);
      if (picked !== null) end(() => resolve(picked));
    };
    const onExit = (): void => end(() => reject(new Error(`the model peer ended: ${lastWordsOf(child)}`)));
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      child.off('message', onMessage);
      child.off('exit', onExit);
      settle();
    };
    child.on('message', onMessage);
    child.once('exit', onExit);
  });
}
