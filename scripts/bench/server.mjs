// The server of the bench: `startServer` in a process of its own, as `scriptorium up` has it. Not TypeScript, because
// stripping types would cost start time and memory that no user pays.
//
// argv[2]: JSON { main, options }. Prints one line of JSON when ready. IPC: 'close' ends it in order, 'gc' collects
// garbage and answers (needs --expose-gc).

import module from 'node:module';
import { pathToFileURL } from 'node:url';

module.enableCompileCache?.();

const { main, options } = JSON.parse(process.argv[2] ?? '{}');
const { startServer } = await import(pathToFileURL(main).href);
const server = await startServer({ ...options, model: { ...options.model } });
process.stdout.write(`${JSON.stringify({ url: server.url, api_key: server.apiKey })}\n`);

let isClosing = false;
async function close() {
  if (isClosing) return;
  isClosing = true;
  await server.close();
  process.exit(0);
}

process.on('SIGTERM', () => void close());
process.on('message', (message) => {
  if (message === 'close') void close();
  if (message !== 'gc') return;
  globalThis.gc?.();
  process.send?.('collected');
});
process.once('disconnect', () => void close());
