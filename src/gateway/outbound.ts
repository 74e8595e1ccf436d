/** The far side's connections of one session, kept alive between requests; shared with no other session (S1). */
import { Agent, type ClientRequest, type RequestOptions, request } from 'node:http';
import type { Duplex } from 'node:stream';
import type { HeaderList, Place } from './exchange.ts';
import { type DialFailure, isFailure, type Upstream } from './upstream.ts';

/** Carries why there is no connection through node's client. */
export class DialError extends Error {
  override name = 'DialError';
  readonly failure: DialFailure;
  constructor(failure: DialFailure) {
    super(failure.message);
    this.failure = failure;
  }
}

const idleMs = 60_000;
const maxSocketsPerPlace = 64;

class DiallingAgent extends Agent {
  readonly #upstream: Upstream;
  readonly #secure: boolean;

  constructor(upstream: Upstream, secure: boolean) {
    super({ keepAlive: true, maxSockets: maxSocketsPerPlace, maxFreeSockets: 16, timeout: idleMs });
    this.#upstream = upstream;
    this.#secure = secure;
  }

  override createConnection(
    options: { host?: string | null; port?: string | number | null },
    done: (error: Error | null, socket: Duplex) => void,
  ): undefined {
    const [host, port] = [options.host ?? '', Number(options.port)];
    const dialled = this.#secure
      ? this.#upstream.dialTls(host, port, ['http/1.1'])
      : this.#upstream.dial(host, port);
    // Node's types want a socket beside the error; there is none.
    const fail = done as (error: Error) => void;
    void dialled.then((socket) => (isFailure(socket) ? fail(new DialError(socket)) : done(null, socket)));
    return undefined;
  }
}

export class Outbound {
  readonly #agents: { secure: Agent; plain: Agent };

  constructor(upstream: Upstream) {
    this.#agents = { secure: new DiallingAgent(upstream, true), plain: new DiallingAgent(upstream, false) };
  }

  /** Sends the head when its body begins or ends; over verified TLS exactly where the sandbox spoke TLS. */
  request(exchange: Place & { method: string; target: string }, headers: HeaderList): ClientRequest {
    const { carriage, secure, method, target } = exchange;
    const options: RequestOptions = {
      host: carriage.host,
      port: carriage.port,
      method,
      path: target,
      headers: headers.flat(),
      setDefaultHeaders: false,
      agent: secure ? this.#agents.secure : this.#agents.plain,
      maxHeaderSize: 256 * 1024,
      insecureHTTPParser: false,
    };
    return request(options);
  }

  close(): void {
    this.#agents.secure.destroy();
    this.#agents.plain.destroy();
  }
}
