/**
 * One process of a fleet: `node fleet-node.ts server FOLDER DATABASE_URL` (api and engine) or
 * `node fleet-node.ts host FOLDER API_URL BIND` (the machine's sandboxes). Prints one line of JSON when it serves. The
 * parts are the product's own; `FOLDER` holds the keys that all of the fleet have.
 */
import path from 'node:path';
import { startHostRole, startRole } from '../src/main.ts';

const [role = '', folder = '', url = '', bind = ''] = process.argv.slice(2);
const ready = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);

if (role === 'server') {
  const server = await startRole({
    roles: { api: true, engine: true },
    databaseUrl: url,
    dataDir: path.join(folder, 'data'),
    masterKeyFile: path.join(folder, 'master.key'),
    clusterSecretFile: path.join(folder, 'cluster.secret'),
    port: 0,
    internal: { host: '127.0.0.1', port: 0 },
    hostLostAfterMs: 60_000,
    drainMs: 2_000,
    apiKey: process.env.SCRIPTORIUM_API_KEY ?? '',
    model: { apiKey: process.env.OPENAI_API_KEY ?? null, baseURL: process.env.OPENAI_BASE_URL ?? null },
  });
  process.once('SIGTERM', () => void server.drain().then(() => process.exit(0)));
  ready({ url: server.url });
} else {
  const host = await startHostRole({
    stateDir: path.join(folder, 'host'),
    url,
    tokenFile: path.join(folder, 'host.token'),
    allowUnisolated: false,
    binds: [bind],
    onChange: (message) => process.stderr.write(`${message}\n`),
  });
  if ('taken' in host) throw new Error(host.taken);
  process.once('SIGTERM', () => host.end());
  void host.ended.then(() => process.exit(0));
  ready({ host: host.id });
}
