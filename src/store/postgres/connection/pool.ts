/**
 * Connections to the database: a pool for work, and single ones that live as long as somebody holds them.
 *
 * Promises kept here
 * - L8: whatever the network or the server does, a call ends within its time, and one that ended badly leaves no
 *   connection behind that a later call could be given.
 * - L2: every connection waits for the disk. A server, a role or a database that is set to answer before is overruled.
 */
import pg from 'pg';
import { StoreUnavailable } from '../../store.ts';
import type { Address } from './address.ts';
import { types } from './values.ts';

export type Limits = {
  /** Connections for work; liveness and notifications have one more each. */
  poolSize: number;
  connectTimeoutMs: number;
  statementTimeoutMs: number;
  /** Age at which a connection for work is replaced, once it is idle; the single ones are never. */
  maxAgeSeconds: number;
};

export type Client = pg.Client;
/** What runs statements: a pool's connection, a lone one. */
export type Connection = Pick<Client, 'query'>;

/** Runs a statement; a named one is prepared once per connection. */
export async function ask<R extends object>(
  connection: Connection,
  text: string,
  values: readonly unknown[] = [],
  name?: string,
): Promise<R[]> {
  const config = { text, values: [...values], ...(name === undefined ? {} : { name }) };
  return (await connection.query(config)).rows as R[];
}

/** More than the server's own limit, so that it is the server who says so where it can. */
const networkMarginMs = 2_000;

const settings = {
  synchronous_commit: 'on',
  client_min_messages: 'error',
  bytea_output: 'hex',
  // Every statement of ours has its index and one good plan: planning it for each execution costs more than running it,
  // and compiling it a hundred times more.
  plan_cache_mode: 'force_generic_plan',
  jit: 'off',
  // A plan is made once, mostly of tables that are still small. Reading all of one then seems cheap, and stays the plan.
  enable_seqscan: 'off',
};

function configOf(address: Address, limits: Limits, name: string): pg.ClientConfig {
  return {
    ...address,
    application_name: `scriptorium ${name}`,
    types,
    // Statements go out without waiting for the replies to those before.
    pipeline: true,
    keepAlive: true,
    keepAliveInitialDelayMillis: 5_000,
    connectionTimeoutMillis: limits.connectTimeoutMs,
    statement_timeout: limits.statementTimeoutMs,
    query_timeout: limits.statementTimeoutMs + networkMarginMs,
    // Ours never wait inside a transaction; a process that froze there must not hold its locks.
    idle_in_transaction_session_timeout: 10_000,
    options: Object.entries(settings)
      .map(([name, value]) => `-c ${name}=${value}`)
      .join(' '),
  } as pg.ClientConfig;
}

export class Pool {
  readonly #pool: pg.Pool;
  readonly #address: Address;
  readonly #limits: Limits;
  readonly #lone = new Set<Client>();

  constructor(address: Address, limits: Limits) {
    this.#address = address;
    this.#limits = limits;
    this.#pool = new pg.Pool({
      ...configOf(address, limits, 'work'),
      max: limits.poolSize,
      idleTimeoutMillis: 60_000,
      maxLifetimeSeconds: limits.maxAgeSeconds,
    });
    // An idle connection that breaks is replaced when one is asked for; there is nobody to tell.
    this.#pool.on('error', () => undefined);
  }

  /** Work on one connection. It goes back only if all went well or the server itself refused a statement. */
  async use<T>(work: (connection: Connection) => Promise<T>): Promise<T> {
    const client = await this.#pool.connect().catch((error: Error) => {
      // Nothing was sent, so nothing is in doubt.
      throw new StoreUnavailable(`the database cannot be reached: ${error.message}`);
    });
    // Broken while in use: the statement under way is told, nobody else need be.
    const ignore = (): void => undefined;
    client.on('error', ignore);
    let isSound = false;
    try {
      const result = await work(client);
      isSound = true;
      return result;
    } catch (error) {
      isSound = error instanceof pg.DatabaseError && error.severity === 'ERROR';
      throw error;
    } finally {
      client.off('error', ignore);
      if (!isSound) destroy(client);
      client.release(!isSound);
    }
  }

  /** One transaction. What is thrown in it rolls it back, and so does work that called `abandon`. */
  transaction<T>(work: (connection: Connection, abandon: () => void) => Promise<T>): Promise<T> {
    return this.use(async (connection) => {
      // Not waited for: statements on one connection stay in order, and where this one fails the next one does.
      connection.query('BEGIN').catch(() => undefined);
      try {
        let isAbandoned = false;
        const result = await work(connection, () => {
          isAbandoned = true;
        });
        if (isAbandoned) {
          await rollBack(connection);
          return result;
        }
        const { command } = await connection.query('COMMIT');
        if (command !== 'COMMIT') throw new Error(`the database answered COMMIT with ${command}`);
        return result;
      } catch (error) {
        await rollBack(connection);
        throw error;
      }
    });
  }

  /** A connection outside the pool, never recycled. The caller closes it with `close`. */
  async dedicated(name: string): Promise<Client> {
    const client = new pg.Client(configOf(this.#address, this.#limits, name));
    client.on('error', () => undefined);
    client.on('end', () => this.#lone.delete(client));
    this.#lone.add(client);
    try {
      await client.connect();
    } catch (error) {
      this.#lone.delete(client);
      throw new StoreUnavailable(
        `the database cannot be reached: ${error instanceof Error ? error.message : error}`,
      );
    }
    return client;
  }

  close(client: Client): void {
    this.#lone.delete(client);
    void client.end().catch(() => undefined);
    // A server that does not answer must not keep the socket, nor us.
    setTimeout(() => destroy(client), 1_000).unref();
  }

  async end(): Promise<void> {
    for (const client of this.#lone) this.close(client);
    await this.#pool.end();
  }
}

async function rollBack(connection: Connection): Promise<void> {
  // Where it fails the connection is thrown away, and the server rolls back by itself.
  await connection.query('ROLLBACK').catch(() => undefined);
}

export function destroy(client: pg.ClientBase): void {
  if ('connection' in client) (client as Client).connection.stream.destroy();
}
