// What a hostile program says to the network, run inside a sandbox. One line per thing that happened.
//
//   dial.mjs resolve NAME [TYPE]          asks the name server
//   dial.mjs tcp HOST PORT [TEXT]         connects, says TEXT, prints what comes
//   dial.mjs tls HOST PORT SNI|- [TEXT]   the same inside TLS for that server name, whoever answers
//   dial.mjs many HOST PORT COUNT         as many connections at once
//   dial.mjs unix PATH|@ABSTRACT          connects to a socket
import { Resolver } from 'node:dns/promises';
import { connect, isIP } from 'node:net';
import { connect as connectTls } from 'node:tls';

const [what, host = '', port = '', ...rest] = process.argv.slice(2);
const resolver = new Resolver({ timeout: 1500, tries: 1 });
const patienceMs = 4000;
const say = (line) => console.log(line);

/** Past /etc/hosts: what the gateway's own name server says. */
async function addressOf(name) {
  if (isIP(name)) return name;
  const [address] = await resolver.resolve4(name);
  return address;
}

function converse(socket, ready, text) {
  return new Promise((resolve) => {
    let heard = '';
    const timer = setTimeout(() => over('silent'), patienceMs);
    const over = (how) => {
      clearTimeout(timer);
      if (heard !== '') say(`heard ${heard.length}: ${heard.slice(0, 1500)}`);
      say(how);
      socket.destroy();
      resolve(how);
    };
    socket.on(ready, () => {
      say('connected');
      socket.write(text);
    });
    socket.on('data', (chunk) => {
      heard += chunk;
    });
    socket.on('end', () => over('ended'));
    socket.on('error', (error) => over(`error ${error.code}`));
  });
}

async function main() {
  if (what === 'resolve') return say(`answer ${JSON.stringify(await resolver.resolve(host, port || 'A'))}`);
  if (what === 'unix') return converse(connect({ path: host.replace(/^@/, '\0') }), 'connect', 'hello\n');
  const address = await addressOf(host);
  if (what === 'tcp') return converse(connect(Number(port), address), 'connect', rest[0] ?? '');
  if (what === 'tls') {
    const [name, text = ''] = rest;
    const servername = name === '-' ? {} : { servername: name };
    const options = { host: address, port: Number(port), rejectUnauthorized: false, ...servername };
    return converse(connectTls(options), 'secureConnect', text);
  }
  if (what === 'many') return many(address, Number(rest[0]));
  process.exitCode = 2;
}

/** Plain HTTP that is never finished, so that each stays open for as long as it is let. */
async function many(address, count) {
  const counts = { open: 0, refused: 0 };
  const sockets = Array.from({ length: count }, () => {
    const socket = connect(Number(port), address, () => socket.write('GET / HTTP/1.1\r\n'));
    socket.on('error', () => counts.refused++);
    return socket;
  });
  await new Promise((resolve) => setTimeout(resolve, 1500));
  counts.open = sockets.filter((socket) => !socket.destroyed && !socket.readableEnded).length;
  say(`open=${counts.open} refused=${counts.refused}`);
  process.exit(0);
}

await main().catch((error) => say(`error ${error.code}`));
process.exit(process.exitCode ?? 0);
