// Checkpoints, fork and rollback as people use them: a real server, a real host and sandbox; only the model is played.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { processesNaming } from '../../chaos/process-table.ts';
import { type Rehearsal, startRehearsal } from '../../rehearsal/peer.ts';
import type { Turn } from '../../rehearsal/script.ts';

const entry = path.resolve(import.meta.dirname, '../../src/cli/main.ts');

/** Notes the task in a file of the workspace and one of the home folder, and says what is in them. */
function script(turn: Turn) {
  const [output] = turn.toolOutputs;
  if (output !== undefined) return { text: `now: ${output.text.trim().replaceAll('\n', ' ')}` };
  const note = `echo ${turn.userText} >> notes; cp notes ~/copy; cat notes ~/copy`;
  return { toolCalls: [{ name: 'bash', arguments: { command: note } }] };
}

let model: Rehearsal;
let place = '';
const children: ChildProcess[] = [];

beforeAll(async () => {
  model = await startRehearsal({ script });
});
afterAll(() => model.stop());
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const pid of processesNaming(path.join(place, 'data', 'host'))) process.kill(pid, 'SIGKILL');
  rmSync(place, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
});

type Run = { code: number | null; stdout: string; stderr: string };

function launch(args: string[]): { child: ChildProcess; output(): string; ended: Promise<Run> } {
  const clean = Object.entries(process.env).filter(
    ([name]) => !/^(SCRIPTORIUM|OPENAI|GIT|VITEST|NO_COLOR)/.test(name),
  );
  const env = {
    ...Object.fromEntries(clean),
    SCRIPTORIUM_DATA_DIR: path.join(place, 'data'),
    SCRIPTORIUM_MODEL: 'rehearsal-1',
    OPENAI_API_KEY: 'played',
    OPENAI_BASE_URL: model.url,
  };
  const child = spawn(process.execPath, [entry, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const ended = new Promise<Run>((resolve) =>
    child.once('close', (code) => resolve({ code, stdout, stderr })),
  );
  return { child, output: () => stdout + stderr, ended };
}

/** What a person sees. */
const wordsOf = ({ stdout, stderr }: Run): string => stdout + stderr;

const cli = (...args: string[]): Promise<Run> => launch(args).ended;

async function up(): Promise<void> {
  place = mkdtempSync(path.join(tmpdir(), 'checkpoints-e2e-'));
  const server = launch(['up', '--json', '--port', '0']);
  for (const endMs = Date.now() + 20_000; !server.output().includes('\n'); await sleep(20))
    if (Date.now() > endMs || server.child.exitCode !== null) throw new Error(server.output());
}

const idIn = (text: string): string => /sesn_[0-9A-Z]{26}/.exec(text)?.[0] ?? '';

async function say(session: string, text: string): Promise<string> {
  const sent = await cli('send', session, text);
  expect(sent).toMatchObject({ code: 0 });
  return wordsOf(await cli('attach', session));
}

describe('checkpoints', () => {
  it('take a session back, files and words, and a fork from the middle goes on differently', {
    timeout: 120_000,
  }, async () => {
    await up();
    const began = await cli('run', 'one');
    const session = idIn(wordsOf(began));
    expect(wordsOf(began)).toContain('now: one one');
    const first = await cli('checkpoint', session);
    expect(first).toMatchObject({ code: 0 });
    expect(await say(session, 'two')).toContain('now: one two one two');

    const forked = await cli('fork', session, '--at', first.stdout.trim(), '-m', 'other');
    expect(forked).toMatchObject({ code: 0 });
    const fork = forked.stdout.trim();
    expect(wordsOf(await cli('attach', fork))).toContain('now: one other one other');

    const back = await cli('rollback', session, first.stdout.trim());
    expect(back).toMatchObject({ code: 0 });
    expect(await say(session, 'three')).toContain('now: one three one three');
    expect(String(model.requests.at(-1)?.body)).not.toContain('one two');

    for (const id of [session, fork]) expect(await cli('replay', id)).toMatchObject({ code: 0 });
    expect(await cli('fsck')).toMatchObject({ code: 0 });

    // A fork is nobody's child: it works on when the session it came from is gone.
    expect(await cli('rm', session)).toMatchObject({ code: 0 });
    expect(await say(fork, 'more')).toContain('now: one other more one other more');

    const nowhere = await cli('fork', fork, '--at', 'sevt_01ARZ3NDEKTSV4RRFFQ69G5FAV');
    expect(nowhere).toMatchObject({ code: 1, stderr: expect.stringContaining('has no event') });
  });
});
