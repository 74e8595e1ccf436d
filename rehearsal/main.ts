/**
 * `node rehearsal/main.ts --script echo`: runs the peer as a process of its own. Prints one line of JSON with its URL
 * when it is ready, and nothing else on stdout.
 */
import { resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { startRehearsal } from './peer.ts';
import type { Script } from './script.ts';

const usage = `Usage: node rehearsal/main.ts [options]

  --script <name|file>   one of rehearsal/scripts, or a module whose default export is a script (default: echo)
  --arg <name=value>     setting for the script; may be repeated
  --port <port>          default: a free one
  --host <address>       default: 127.0.0.1
  --api-key <key>        the only accepted key; also REHEARSAL_API_KEY (default: any)
  --record <file>        append every request to this file, one line of JSON each
  --keep-bodies <n>      request bodies kept in memory (default: 4)
  --exit-with-parent     end when stdin closes
`;

const { values } = parseArgs({
  options: {
    script: { type: 'string', default: 'echo' },
    arg: { type: 'string', multiple: true, default: [] },
    port: { type: 'string', default: '0' },
    host: { type: 'string', default: '127.0.0.1' },
    'api-key': { type: 'string' },
    record: { type: 'string' },
    'keep-bodies': { type: 'string', default: '4' },
    'exit-with-parent': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

if (values.help) {
  process.stdout.write(usage);
  process.exit(0);
}

const apiKey = values['api-key'] ?? process.env.REHEARSAL_API_KEY;
const rehearsal = await startRehearsal({
  script: await loadScript(values.script),
  port: Number(values.port),
  host: values.host,
  args: Object.fromEntries(values.arg.map(splitArg)),
  keepBodies: Number(values['keep-bodies']),
  ...(apiKey === undefined ? {} : { apiKey }),
  ...(values.record === undefined ? {} : { recordPath: values.record }),
});
process.stdout.write(`${JSON.stringify({ url: rehearsal.url })}\n`);

let isStopping = false;
async function stop(): Promise<void> {
  if (isStopping) return;
  isStopping = true;
  await rehearsal.stop();
  process.exit(0);
}
process.once('SIGTERM', () => void stop());
process.once('SIGINT', () => void stop());
if (values['exit-with-parent']) {
  process.stdin.resume();
  process.stdin.once('close', () => void stop());
  process.stdin.once('end', () => void stop());
}

/** A bare name is one of ours, beside this file and with its extension (`.ts` in a checkout, `.js` when built). */
async function loadScript(name: string): Promise<Script> {
  const here = fileURLToPath(import.meta.url);
  const isOurs = /^[a-z0-9-]+$/.test(name);
  const path = isOurs
    ? resolve(here, '..', 'scripts', `${name}${here.endsWith('.ts') ? '.ts' : '.js'}`)
    : resolve(name);
  const module = (await import(pathToFileURL(path).href)) as { default?: unknown };
  if (typeof module.default !== 'function') throw new Error(`${name} has no function as its default export`);
  return module.default as Script;
}

function splitArg(arg: string): [string, string] {
  const at = arg.indexOf('=');
  return at < 0 ? [arg, ''] : [arg.slice(0, at), arg.slice(at + 1)];
}
