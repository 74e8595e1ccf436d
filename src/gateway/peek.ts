/** Looks at the first bytes of a connection and puts them back, within a bound of time. */
import type { Socket } from 'node:net';

/**
 * What `read` made of the bytes so far, or null where it wants more. It is given everything that came; it bounds how
 * much it wants. Ends with `closed` or `silent` (in `timeoutMs`) where it never said.
 */
export async function peek<T extends object>(
  socket: Socket,
  read: (bytes: Buffer) => T | null,
  timeoutMs: number,
): Promise<T | 'closed' | 'silent'> {
  let seen = Buffer.alloc(0);
  const { promise, resolve } = Promise.withResolvers<T | 'closed' | 'silent'>();
  const onReadable = () => {
    for (let chunk = socket.read(); chunk !== null; chunk = socket.read())
      seen = Buffer.concat([seen, chunk]);
    const answer = seen.length > 0 ? read(seen) : null;
    if (answer !== null) resolve(answer);
  };
  const onClosed = () => resolve('closed');
  const timer = setTimeout(() => resolve('silent'), timeoutMs);
  socket.on('readable', onReadable).once('end', onClosed).once('close', onClosed);
  // Bytes that were there before we listened announce themselves; so does an end.
  if (socket.destroyed) onClosed();
  const answer = await promise;
  clearTimeout(timer);
  socket.off('readable', onReadable).off('end', onClosed).off('close', onClosed);
  if (seen.length > 0 && !socket.destroyed) socket.unshift(seen);
  // A stream notices only in the next tick that nobody reads it any more.
  await new Promise<void>((settled) => process.nextTick(settled));
  return answer;
}
