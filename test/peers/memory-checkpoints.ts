/**
 * Checkpoints of the MemoryExecutor: copies of its one map of files, which stands for the disk of every session.
 *
 * Keeps the port's rules: a name is used once and answers the same again, a removed one stays used, a restore happens
 * once for its call id, an import is whole or nothing. An archive here is JSON; whoever imports treats it as bytes.
 */
import type {
  Checkpoint,
  CheckpointRead,
  CheckpointRef,
  CheckpointWritten,
  Refusal,
} from '../../src/sandbox/executor.ts';
import type { MemoryFile } from './memory-executor.ts';

type Kept = { about: Checkpoint; files: Map<string, MemoryFile>; directories: Set<string> };
type Archive = { files: [string, Omit<MemoryFile, 'data'> & { base64: string }][]; directories: string[] };

export class MemoryCheckpoints {
  readonly #files: Map<string, MemoryFile>;
  readonly #directories: Set<string>;
  /** Null: it was removed. */
  readonly #kept = new Map<string, Kept | null>();
  readonly #restored = new Map<string, string>();
  readonly #incoming = new Map<string, Buffer>();
  #clockMs = 1_700_000_000_000;

  constructor(files: Map<string, MemoryFile>, directories: Set<string>) {
    this.#files = files;
    this.#directories = directories;
  }

  make(ref: CheckpointRef): Checkpoint | Refusal {
    const known = this.#kept.get(nameOf(ref));
    if (known === null) return unknownCheckpoint(ref);
    return known?.about ?? this.#keep(ref, new Map(this.#files), new Set(this.#directories));
  }

  #keep(ref: CheckpointRef, files: Map<string, MemoryFile>, directories: Set<string>): Checkpoint {
    const sizeBytes = [...files.values()].reduce((sum, { data }) => sum + data.length, 0);
    const about: Checkpoint = {
      ...{ checkpoint: ref.checkpoint, driver: 'tar', sizeBytes, files: files.size },
      ...{ tookMs: 1, madeAtMs: this.#clockMs++ },
    };
    this.#kept.set(nameOf(ref), { about, files, directories });
    return about;
  }

  /** `end` ends the session's sandbox; it is called just before the disk is another. */
  restore(
    request: { session: string; callId: string; from: CheckpointRef },
    end: () => void,
  ): Refusal | null {
    const { session, callId, from } = request;
    const call = `${session} ${callId}`;
    const before = this.#restored.get(call);
    if (before === nameOf(from)) return null;
    if (before !== undefined)
      return { refused: 'call_mismatch', message: 'the call id was used with other content' };
    const kept = this.#kept.get(nameOf(from));
    if (!kept) return unknownCheckpoint(from);
    end();
    this.#restored.set(call, nameOf(from));
    replace(this.#files, kept.files);
    this.#directories.clear();
    for (const directory of kept.directories) this.#directories.add(directory);
    return null;
  }

  remove(ref: CheckpointRef): Record<string, never> {
    if (this.#kept.has(nameOf(ref))) this.#kept.set(nameOf(ref), null);
    return {};
  }

  list(session: string): { checkpoints: Checkpoint[] } {
    const mine = [...this.#kept].filter(([name]) => name.startsWith(`${session} `));
    return { checkpoints: mine.flatMap(([, kept]) => kept?.about ?? []) };
  }

  read(request: CheckpointRef & { offset: number; maxBytes: number }): CheckpointRead | Refusal {
    const kept = this.#kept.get(nameOf(request));
    if (!kept) return unknownCheckpoint(request);
    const files = [...kept.files].map(
      ([path, { data, ...rest }]) =>
        [path, { ...rest, base64: Buffer.from(data).toString('base64') }] as const,
    );
    const whole = Buffer.from(JSON.stringify({ files, directories: [...kept.directories] }));
    const end = request.offset + request.maxBytes;
    return {
      data: whole.subarray(request.offset, end),
      sizeBytes: whole.length,
      isEnd: end >= whole.length,
    };
  }

  write(
    request: CheckpointRef & { offset: number; data: Uint8Array; isLast: boolean },
  ): CheckpointWritten | Refusal {
    const name = nameOf(request);
    const known = this.#kept.get(name);
    if (known === null) return unknownCheckpoint(request);
    const receivedBytes = request.offset + request.data.length;
    if (known) return { receivedBytes, checkpoint: known.about };
    const before = request.offset === 0 ? Buffer.alloc(0) : (this.#incoming.get(name) ?? Buffer.alloc(0));
    if (before.length !== request.offset)
      return { refused: 'io_error', message: `${before.length} bytes were received, not ${request.offset}` };
    const whole = Buffer.concat([before, request.data]);
    this.#incoming.set(name, whole);
    if (!request.isLast) return { receivedBytes, checkpoint: null };
    this.#incoming.delete(name);
    try {
      const { files, directories } = JSON.parse(whole.toString()) as Archive;
      const entries = files.map(
        ([path, { base64, ...rest }]) => [path, { ...rest, data: Buffer.from(base64, 'base64') }] as const,
      );
      return { receivedBytes, checkpoint: this.#keep(request, new Map(entries), new Set(directories)) };
    } catch (error) {
      return { refused: 'bad_archive', message: (error as Error).message };
    }
  }
}

function nameOf({ session, checkpoint }: CheckpointRef): string {
  return `${session} ${checkpoint}`;
}

function unknownCheckpoint({ session, checkpoint }: CheckpointRef): Refusal {
  return {
    refused: 'unknown_checkpoint',
    message: `session ${session} has no checkpoint ${checkpoint} here`,
  };
}

function replace<K, V>(target: Map<K, V>, content: Map<K, V>): void {
  target.clear();
  for (const [key, value] of content) target.set(key, value);
}
