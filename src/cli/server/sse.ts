/** Server-sent events, read from a response body: only what our server sends, and comments. */

export type Frame = { event: string; id: string | null; data: string };

/** A frame of this size is no event of ours; the stream is given up. */
const MAX_FRAME_CHARS = 64 * 1024 * 1024;

export async function* readFrames(body: ReadableStream<Uint8Array>): AsyncGenerator<Frame, void, void> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true });
    // A lone CR at the end may be half of a CRLF; it waits for the next chunk.
    const held = rest.endsWith('\r') ? 1 : 0;
    const text = rest
      .slice(0, rest.length - held)
      .replaceAll('\r\n', '\n')
      .replaceAll('\r', '\n');
    const blocks = text.split('\n\n');
    rest = (blocks.pop() ?? '') + (held === 1 ? '\r' : '');
    if (rest.length > MAX_FRAME_CHARS) throw new Error('a frame of the stream does not end');
    for (const block of blocks) {
      const frame = parseFrame(block);
      if (frame !== null) yield frame;
    }
  }
}

function parseFrame(block: string): Frame | null {
  let event = 'message';
  let id: string | null = null;
  const data: string[] = [];
  for (const line of block.split('\n')) {
    const colon = line.indexOf(':');
    if (colon === 0 || line === '') continue;
    const name = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'event') event = value;
    if (name === 'id') id = value;
    if (name === 'data') data.push(value);
  }
  return data.length === 0 ? null : { event, id, data: data.join('\n') };
}
