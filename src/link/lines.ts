/** One message a line: how every link and socket of ours frames its JSON. */
import type { Duplex } from 'node:stream';

/** Calls `onLine` for every line; `onTooLong` once when a line passes the cap (the connection is of no use then). */
export function readLines(
  socket: Duplex,
  onLine: (line: string) => void,
  onTooLong: () => void,
  maxBytes: number,
): void {
  let chunks: Buffer[] = [];
  let size = 0;
  socket.on('data', (chunk: Buffer) => {
    let from = 0;
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, from)) {
      chunks.push(chunk.subarray(from, at));
      const line = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
      chunks = [];
      size = 0;
      from = at + 1;
      onLine(line.toString());
    }
    if (from < chunk.length) chunks.push(chunk.subarray(from));
    size += chunk.length - from;
    if (size > maxBytes) {
      chunks = [];
      onTooLong();
    }
  });
}

export function encodeLine(message: object): string {
  return `${JSON.stringify(message)}\n`;
}
