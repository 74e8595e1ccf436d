/**
 * The witness: a process of its own that nobody attacks and that belongs to nobody. Commands in the sandboxes write a
 * line into its pipe for each effect; it counts them, on disk, in the order in which they happened.
 *
 * `node witness.ts PIPE RECORD`. Prints one line of JSON when it listens; ends with its stdin.
 */
import { constants, openSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';

const [pipe, record] = process.argv.slice(2);
if (pipe === undefined || record === undefined) throw new Error('witness PIPE RECORD');

// Held for writing too: the pipe never ends, however many writers come and go.
const reading = new Socket({ fd: openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK), readable: true });
const recordFd = openSync(record, 'a', 0o600);
let rest = '';
reading.on('data', (chunk: Buffer) => {
  const lines = (rest + chunk.toString('utf8')).split('\n');
  rest = lines.pop() ?? '';
  for (const nonce of lines) writeSync(recordFd, `${JSON.stringify({ nonce, atMs: Date.now() })}\n`);
});
process.stdin.resume();
process.stdin.once('close', () => process.exit(0));
process.stdout.write(`${JSON.stringify({ ready: true })}\n`);
