/** `scriptorium apply`: brings what a session made into a repository of the user's, as one new branch. */
import { createWriteStream } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import { applyBundle } from './repository/apply-bundle.ts';
import { git } from './repository/git.ts';
import { snapshotMessage } from './repository/snapshot.ts';
import { temporaryFolder } from './repository/temporary.ts';
import type { Client } from './server/client.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import { resolveSession, shortId } from './server/sessions.ts';
import { counted } from './terminal/figures.ts';
import type { Terminal } from './terminal/terminal.ts';
import { oneLine, safeText } from './terminal/text.ts';

export type ApplyOptions = ServerOptions & { repo?: string; branch?: string; json?: boolean };

type Delivery = { file: { id: string }; branch: string; head: string; base_commit: string | null };

const MAX_DOWNLOAD_BYTES = 1024 * 1024 * 1024;
const COMMITS_SHOWN = 30;

export async function apply(typed: string, options: ApplyOptions, terminal: Terminal): Promise<ExitCode> {
  const client = await connect({ ...options, terminal });
  const id = await resolveSession(client, typed);
  const folder = path.resolve(options.repo ?? '.');
  const branch = options.branch ?? `scriptorium/${shortId(id)}`;
  const delivery = await client.post<Delivery>(`/v1/sessions/${id}/delivery`);
  const temporary = await temporaryFolder('delivery');
  try {
    const bundlePath = path.join(temporary.path, 'delivery.bundle');
    await download(client, delivery.file.id, bundlePath);
    const { head, branch: ref } = delivery;
    const applied = await applyBundle({ folder, bundlePath, ref, head, branch });
    if (!applied.ok) throw new Refused(applied.message);
    if (options.json === true) terminal.out(JSON.stringify({ ...applied, session_id: id }));
    else await tell(folder, applied, delivery, terminal);
    return exitCodes.done;
  } finally {
    await temporary.remove();
  }
}

async function download(client: Client, file: string, into: string): Promise<void> {
  const response = await client.open(`/v1/files/${encodeURIComponent(file)}/content`);
  const body = Readable.fromWeb(response.body as Parameters<typeof Readable.fromWeb>[0]);
  let sizeBytes = 0;
  async function* capped(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of source) {
      sizeBytes += chunk.length;
      if (sizeBytes > MAX_DOWNLOAD_BYTES)
        throw new Refused(`the bundle is larger than ${MAX_DOWNLOAD_BYTES} bytes`);
      yield chunk;
    }
  }
  await pipeline(body, capped, createWriteStream(into, { mode: 0o600 }));
}

type Applied = Extract<Awaited<ReturnType<typeof applyBundle>>, { ok: true }>;

async function tell(folder: string, applied: Applied, delivery: Delivery, terminal: Terminal): Promise<void> {
  const { branch, commits, onto, isNew } = applied;
  const state = isNew ? 'made' : 'already there, with the same commits';
  terminal.out(
    `${terminal.paint('bold', branch)} (${state}), ${counted(commits.length, 'commit')}${onto === null ? '' : ` on ${onto.slice(0, 10)}`}:`,
  );
  for (const commit of commits.slice(0, COMMITS_SHOWN))
    terminal.out(`  ${terminal.paint('yellow', commit.sha.slice(0, 10))} ${oneLine(commit.subject, 100)}`);
  if (commits.length > COMMITS_SHOWN) terminal.out(`  … ${commits.length - COMMITS_SHOWN} more`);
  const [first] = commits;
  const isYours = first !== undefined && first.sha === delivery.base_commit;
  if (isYours)
    terminal.out(
      `The first commit is not the agent's: "${oneLine(snapshotMessage, 80)}". The agent's commits stand on it.`,
    );
  const from = isYours ? first.sha : onto;
  const range = from === null ? branch : `${from.slice(0, 10)}..${branch}`;
  if (from !== null) {
    const stat = await git(['diff', '--stat', '--no-color', '--no-ext-diff', from, delivery.head], {
      cwd: folder,
    });
    if (stat.ok) terminal.out(safeText(stat.stdout.toString('utf8')).replace(/\n$/, ''));
  }
  terminal.out('');
  terminal.out('Your working tree and your branches are untouched. To look, and to take it:');
  terminal.out(`  git log -p ${range}`);
  if (isYours) {
    // Without a commit there is nothing to stash onto, nor to merge into.
    const unborn = !(await git(['rev-parse', '--verify', '--quiet', 'HEAD'], { cwd: folder })).ok;
    if (unborn)
      terminal.out(
        `  git reset ${first.sha.slice(0, 10)} && git merge ${branch}   (your files become the first commit)`,
      );
    else
      terminal.out(`  git stash -u && git merge ${branch}   (the branch holds that work of yours already)`);
  } else terminal.out(`  git merge ${branch}`);
}
