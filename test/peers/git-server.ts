/**
 * A private git server over HTTPS: git's own `http-backend` behind TLS, for those who know the password, as hosted ones
 * are. It records who came, and echoes nothing.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Authority } from '../../src/gateway/authority.ts';

export class GitServer {
  readonly folder: string;
  /** Of each request: method, path, and the password that came with it (null: none). */
  readonly seen: { method: string; url: string; password: string | null }[] = [];
  readonly #server: Server;

  private constructor(folder: string, authority: Authority, password: string) {
    this.folder = folder;
    const SNICallback = (name: string, done: (error: Error | null, context?: never) => void): void => {
      authority.contextFor(name).then((context) => done(null, context as never), done);
    };
    this.#server = createServer({ SNICallback }, (request, response) => {
      const given = passwordOf(request);
      this.seen.push({ method: request.method ?? '', url: request.url ?? '', password: given });
      if (given === password) return this.#serve(request, response);
      response.writeHead(401, { 'www-authenticate': 'Basic realm="private"' }).end();
    });
  }

  /** With one repository, `repo.git`, that has one commit on `main`. */
  static async start(authority: Authority, password: string): Promise<GitServer> {
    const folder = await mkdtemp(path.join(tmpdir(), 'scriptorium-git-'));
    const work = path.join(folder, 'work');
    const git = (...args: string[]): Buffer =>
      execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@t.example', ...args], { stdio: 'pipe' });
    git('init', '-q', '-b', 'main', work);
    git('-C', work, 'commit', '-q', '--allow-empty', '-m', 'the private one');
    git('clone', '-q', '--bare', work, path.join(folder, 'repo.git'));
    git('-C', path.join(folder, 'repo.git'), 'config', 'http.receivepack', 'true');
    const server = new GitServer(folder, authority, password);
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve));
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  branches(): string {
    return execFileSync('git', ['-C', path.join(this.folder, 'repo.git'), 'branch', '-v'], {
      encoding: 'utf8',
    });
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await rm(this.folder, { recursive: true, force: true });
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const { pathname, search } = new URL(request.url ?? '/', 'https://git.example');
    const backend = spawn('git', ['http-backend'], {
      env: {
        PATH: process.env.PATH ?? '',
        GIT_PROJECT_ROOT: this.folder,
        GIT_HTTP_EXPORT_ALL: '1',
        REMOTE_USER: 'agent',
        REQUEST_METHOD: request.method ?? 'GET',
        PATH_INFO: pathname,
        QUERY_STRING: search.slice(1),
        CONTENT_TYPE: request.headers['content-type'] ?? '',
        HTTP_CONTENT_ENCODING: request.headers['content-encoding'] ?? '',
      },
    });
    request.pipe(backend.stdin);
    let head = Buffer.alloc(0);
    let isHeadDone = false;
    backend.stdout.on('data', (chunk: Buffer) => {
      if (isHeadDone) return void response.write(chunk);
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf('\r\n\r\n');
      if (end === -1) return;
      isHeadDone = true;
      const lines = head
        .subarray(0, end)
        .toString()
        .split('\r\n')
        .map((line) => line.split(': ', 2));
      const status = lines.find(([name]) => name === 'Status')?.[1];
      response.statusCode = status === undefined ? 200 : Number(status.slice(0, 3));
      for (const [name, value] of lines)
        if (name && value && name !== 'Status') response.setHeader(name, value);
      response.write(head.subarray(end + 4));
    });
    backend.stdout.on('end', () => response.end());
  }
}

function passwordOf({ headers }: IncomingMessage): string | null {
  const [scheme, value = ''] = (headers.authorization ?? '').split(' ', 2);
  if (scheme !== 'Basic') return null;
  return Buffer.from(value, 'base64').toString().split(':').slice(1).join(':');
}
