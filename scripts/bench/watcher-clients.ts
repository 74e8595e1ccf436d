/**
 * Many SSE clients in one process of little weight: raw sockets, and what they get is only kept, with the time it came.
 * It is read (chunks, frames, JSON) when the bench asks, after the work: so that the two cores serve the server.
 *
 * Times are the wall clock's in whole milliseconds, as the times of the log are.
 */
import { connect } from 'node:net';

/** Asked by the parent. */
export type ToClients =
  | { type: 'open'; port: number; headers: Record<string, string>; sessions: string[]; perSession: number }
  /** What each client must have got: all ids of its session, in order. */
  | { type: 'check'; expected: Record<string, string[]>; sinceMs: number };

export type FromClients =
  | { type: 'ready' }
  | { type: 'open' }
  | { type: 'checked'; problems: string[]; latenciesMs: number[]; cpuSeconds: number };

type Client = { session: string; chunks: Buffer[]; arrivals: { endByte: number; atMs: number }[] };
type Frame = { id: string; processedAt: string | null; type: string; seq: number | null; atMs: number };

const patienceMs = 20_000;
const clients: Client[] = [];
const tell = (message: FromClients): void => void process.send?.(message);

process.on('message', (message: ToClients) => {
  if (message.type === 'open') void openAll(message).then(() => tell({ type: 'open' }));
  else void check(message.expected, message.sinceMs);
});
process.once('disconnect', () => process.exit(0));
tell({ type: 'ready' });

async function openAll({ port, headers, sessions, perSession }: ToClients & { type: 'open' }): Promise<void> {
  for (let round = 0; round < perSession; round++)
    await Promise.all(sessions.map((session) => openOne(port, headers, session)));
}

/** Resolves at the first byte; the stream begins with the session's first event. */
function openOne(port: number, headers: Record<string, string>, session: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const client: Client = { session, chunks: [], arrivals: [] };
    clients.push(client);
    let endByte = 0;
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    const lines = Object.entries({ host: 'bench', ...headers, 'last-event-id': '0' });
    const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('');
    socket.write(`GET /v1/sessions/${session}/events/stream HTTP/1.1\r\n${head}\r\n`);
    socket.on('data', (chunk: Buffer) => {
      endByte += chunk.length;
      client.chunks.push(chunk);
      client.arrivals.push({ endByte, atMs: Date.now() });
      resolve();
    });
    socket.on('error', reject);
  });
}

/** Waits a while for what is still under way, then says what is missing. */
async function check(expected: Record<string, string[]>, sinceMs: number): Promise<void> {
  const cpu = process.cpuUsage();
  const cpuSeconds = (cpu.user + cpu.system) / 1e6;
  const endMs = Date.now() + patienceMs;
  for (;;) {
    const all = clients.map((client) => ({ client, frames: framesOf(client) }));
    const problems = all.flatMap(({ client, frames }) => problemsOf(frames, expected[client.session] ?? []));
    if (problems.length > 0 && Date.now() < endMs) {
      await new Promise((resolve) => setTimeout(resolve, 500));
      continue;
    }
    const latenciesMs = all.flatMap(({ frames }) => frames.flatMap((frame) => latencyOf(frame, sinceMs)));
    tell({ type: 'checked', problems: problems.slice(0, 5), latenciesMs, cpuSeconds });
    return;
  }
}

/** Every event of the list, once and in order; only an input that waited comes twice. */
function problemsOf(frames: readonly Frame[], expected: readonly string[]): string[] {
  const problems: string[] = [];
  const got = new Set(frames.map(({ id }) => id));
  const missing = expected.filter((id) => !got.has(id));
  if (missing.length > 0 || expected.length === 0)
    problems.push(`a client lacks ${missing.length} of ${expected.length} events, first ${missing[0]}`);
  const own = frames.filter(({ type }) => !type.startsWith('user.'));
  if (new Set(own.map(({ id }) => id)).size !== own.length) problems.push('a client got an event twice');
  const seqs = frames.flatMap(({ seq }) => seq ?? []);
  if (seqs.some((seq, at) => seq <= (seqs[at - 1] ?? 0))) problems.push('a client got events out of order');
  return problems;
}

/** From the time of the event, given by the store before its commit, to the client's read. */
function latencyOf({ processedAt, atMs }: Frame, sinceMs: number): number[] {
  const eventMs = processedAt === null ? Number.NaN : Date.parse(processedAt);
  return eventMs >= sinceMs ? [atMs - eventMs] : [];
}

/** The body's chunks hold whole frames; a frame has come when the last byte of its chunk has. */
function framesOf({ chunks, arrivals }: Client): Frame[] {
  const bytes = Buffer.concat(chunks);
  const frames: Frame[] = [];
  let arrival = 0;
  for (let at = bytes.indexOf('\r\n\r\n') + 4; at < bytes.length; ) {
    const sizeEnd = bytes.indexOf('\r\n', at);
    const size = Number.parseInt(bytes.toString('latin1', at, sizeEnd), 16);
    const end = sizeEnd + 2 + size + 2;
    if (sizeEnd === -1 || end > bytes.length) break;
    while ((arrivals[arrival]?.endByte ?? 0) < end) arrival += 1;
    const text = bytes.toString('utf8', sizeEnd + 2, end - 2);
    const atMs = arrivals[arrival]?.atMs ?? Number.NaN;
    for (const frame of text.split('\n\n')) frames.push(...frameOf(frame, atMs));
    at = end;
  }
  return frames;
}

function frameOf(text: string, atMs: number): Frame[] {
  const data = /^data: (.*)$/m.exec(text)?.[1];
  if (data === undefined) return [];
  const event = JSON.parse(data) as { id: string; type: string; processed_at: string | null };
  const seq = /^id: (\d+)$/m.exec(text)?.[1];
  const { id, type, processed_at: processedAt } = event;
  return [{ id, type, processedAt, seq: seq === undefined ? null : Number(seq), atMs }];
}
