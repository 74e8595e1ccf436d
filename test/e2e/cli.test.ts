// The command line as people meet it: real processes, a real server, real git, a real sandbox; only the model is played.
import type { ChildProcess } from 'node:child_process';
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { processesNaming } from '../../chaos/process-table.ts';
import type { Rehearsal } from '../../rehearsal/peer.ts';
import { startRehearsal } from '../../rehearsal/peer.ts';
import type { Reply, Turn } from '../../rehearsal/script.ts';

const entry = path.resolve(import.meta.dirname, '../../src/cli/main.ts');
const key = 'sk-scr-test-0123456789abcdefghijklmnopqrstuv';
const waits = { timeout: 60_000 };

/** The last word of a task says what the model does. */
function script(turn: Turn): Reply {
  const outputs = turn.toolOutputs;
  const bash = (command: string): Reply => ({ toolCalls: [{ name: 'bash', arguments: { command } }] });
  if (turn.userText.endsWith('slowly'))
    return outputs.length === 0 ? bash('sleep 4; echo slept') : { text: 'Rested.' };
  if (turn.userText.endsWith('edit')) {
    if (outputs.length > 0) return { text: 'Edited.' };
    return bash("printf 'changed\\n' > a.txt && git commit -qam 'change a' && printf 'new\\n' > b.txt");
  }
  if (turn.userText.endsWith('evil'))
    return { text: 'title \u001b]0;owned\u0007 and \u001b[2J clear \u009b31m and \u202eturned' };
  if (turn.userText.endsWith('twice'))
    return outputs.length < 2
      ? bash(`echo ${outputs.length}`)
      : { text: outputs.map(({ text }) => text).join(' ') };
  return { text: `You said: ${turn.userText}` };
}

let model: Rehearsal;
const folders: string[] = [];
const children: ChildProcess[] = [];

beforeAll(async () => {
  model = await startRehearsal({ script });
});
afterAll(() => model.stop());
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const folder of folders.splice(0)) {
    for (const pid of processesNaming(path.join(folder, 'data', 'host'))) process.kill(pid, 'SIGKILL');
    rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
});

function folder(): string {
  const made = mkdtempSync(path.join(tmpdir(), 'cli-e2e-'));
  folders.push(made);
  return made;
}

type Run = { code: number | null; stdout: string; stderr: string };
type Running = { child: ChildProcess; ended: Promise<Run>; output(): string };

function launch(place: string, args: string[], env: Record<string, string> = {}): Running {
  const clean = Object.entries(process.env).filter(
    ([name]) => !/^(SCRIPTORIUM|OPENAI|GIT|VITEST|NO_COLOR)/.test(name),
  );
  const child = spawn(process.execPath, [entry, ...args], {
    env: {
      ...Object.fromEntries(clean),
      SCRIPTORIUM_DATA_DIR: path.join(place, 'data'),
      SCRIPTORIUM_MODEL: 'rehearsal-1',
      OPENAI_API_KEY: 'played',
      OPENAI_BASE_URL: model.url,
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const ended = new Promise<Run>((resolve) =>
    child.once('close', (code) => resolve({ code, stdout, stderr })),
  );
  return { child, ended, output: () => stdout + stderr };
}

const cli = (place: string, args: string[], env?: Record<string, string>): Promise<Run> =>
  launch(place, args, env).ended;

async function until(holds: () => boolean, what: string): Promise<void> {
  for (const endMs = Date.now() + 20_000; !holds(); await sleep(20))
    if (Date.now() > endMs) throw new Error(`never: ${what}`);
}

async function up(place: string, args: string[] = []): Promise<Running & { url: string; apiKey: string }> {
  const server = launch(place, ['up', '--json', '--port', '0', ...args]);
  await until(
    () => server.output().includes('\n') || server.child.exitCode !== null,
    'the server prints its line',
  );
  const line = JSON.parse(server.output().split('\n')[0] ?? '') as { url: string; api_key: string };
  return { ...server, url: line.url, apiKey: line.api_key };
}

function repository(place: string): string {
  const root = path.join(place, 'repository');
  mkdirSync(root);
  git(root, 'init', '-q', '-b', 'main');
  writeFileSync(path.join(root, 'a.txt'), 'one\n');
  git(root, 'add', '-A');
  git(root, 'commit', '-q', '-m', 'first');
  return root;
}

function git(cwd: string, ...args: string[]): string {
  const identity = ['-c', 'user.name=U', '-c', 'user.email=u@example.com'];
  return execFileSync('git', [...identity, ...args], { cwd, encoding: 'utf8' }).trim();
}

const sessionIn = (text: string): string => /sesn_[0-9A-Z]{26}/.exec(text)?.[0] ?? '';

describe('up', () => {
  it(
    'prints one line, hides its file, refuses a second server, stops in order and keeps the key',
    waits,
    async () => {
      const place = folder();
      const first = await up(place);
      const discovery = path.join(place, 'data', 'server.json');
      expect(statSync(discovery).mode & 0o777).toBe(0o600);
      const headers = { authorization: `Bearer ${first.apiKey}` };
      expect((await fetch(`${first.url}/v1/sessions`, { headers })).status).toBe(200);
      const second = await cli(place, ['up', '--port', '0']);
      expect(second).toMatchObject({ code: 4, stderr: expect.stringContaining(`another server runs on`) });
      expect(second.stderr).toContain(first.url);
      first.child.kill('SIGTERM');
      expect((await first.ended).code).toBe(0);
      expect(JSON.parse(readFileSync(discovery, 'utf8'))).toEqual({ url: '', pid: 0, api_key: first.apiKey });
      expect((await up(place)).apiKey).toBe(first.apiKey);
    },
  );

  it('takes the first key from the environment and writes it nowhere', waits, async () => {
    const place = folder();
    const server = launch(place, ['up', '--port', '0'], { SCRIPTORIUM_API_KEY: key });
    await until(() => server.output().includes('listens on'), 'the server listens');
    expect(server.output()).not.toContain(key);
    expect(readFileSync(path.join(place, 'data', 'server.json'), 'utf8')).not.toContain(key);
    expect((await cli(place, ['ls'], { SCRIPTORIUM_API_KEY: key })).code).toBe(0);
    const wrong = await cli(place, ['ls'], { SCRIPTORIUM_API_KEY: 'wrong' });
    expect(wrong).toMatchObject({ code: 1, stderr: expect.stringContaining('--api-key') });
    expect(wrong.stderr.trim().split('\n')).toHaveLength(2);
  });

  it('says in one line what is wrong with its options', async () => {
    const place = folder();
    expect((await cli(place, ['up', '--port', 'http'])).code).toBe(2);
    expect((await cli(place, ['up', '--bind', 'relative:/x'])).code).toBe(2);
    const weak = await cli(place, ['up', '--port', '0'], { SCRIPTORIUM_API_KEY: 'short' });
    expect(weak).toMatchObject({ code: 2, stderr: expect.stringContaining('SCRIPTORIUM_API_KEY') });
  });

  it('leaves no host behind where it could not start', waits, async () => {
    const place = folder();
    const taken = new URL((await up(folder())).url).port;
    const refused = await cli(place, ['up', '--port', taken]);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining(`port ${taken} is taken`) });
    const weak = await cli(place, ['up', '--port', '0'], { SCRIPTORIUM_API_KEY: 'short' });
    expect(weak.code).toBe(2);
    await until(() => processesNaming(path.join(place, 'data', 'host')).length === 0, 'the hosts are gone');
  });

  it.each(['/proc/x', '/sys/x/y', '/dev/null', '/dev/null/x'])(
    'refuses the data directory %s before it makes anything, and so do the doctor and a host',
    waits,
    async (dataDir) => {
      for (const args of [
        ['up', '--port', '0'],
        ['run', 'x'],
      ]) {
        const refused = await cli(folder(), [...args, '--data-dir', dataDir]);
        expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('cannot be used') });
        expect(refused.stderr.trim().split('\n')).toHaveLength(2);
      }
      const doctor = await cli(folder(), ['doctor', '--data-dir', dataDir]);
      expect(doctor).toMatchObject({ code: 1, stdout: expect.stringMatching(/NO {2}data directory/) });
      const place = folder();
      const token = path.join(place, 'token');
      writeFileSync(token, `host-x.${'A'.repeat(43)}\n`);
      const join = ['host', '--join', 'http://127.0.0.1:1', '--token-file', token];
      const host = await cli(place, [...join, '--state-dir', dataDir]);
      expect(host).toMatchObject({ code: 1, stderr: expect.stringContaining('another with --state-dir') });
    },
  );
});

describe('run and apply', () => {
  it(
    "works on the repository as it is and brings commits home, the user's own work below them",
    waits,
    async () => {
      const place = folder();
      await up(place);
      const root = repository(place);
      writeFileSync(path.join(root, 'mine.txt'), 'mine\n');
      const run = await cli(place, ['run', 'please edit', '--repo', root]);
      expect(run).toMatchObject({ code: 0, stdout: expect.stringContaining('+changed') });
      expect(run.stdout).not.toContain('mine');
      expect(run.stderr).toMatch(/✓ bash .* \d+ ms/);
      expect(run.stderr).toMatch(/\d+ tokens in, \d+ out, \$0\.\d{4}/);
      const id = sessionIn(run.stderr);
      expect(run.stderr).toContain(`scriptorium apply ${id}`);
      expect(`${run.stdout}${run.stderr}`).not.toContain('\u001b');

      const applied = await cli(place, ['apply', id.slice(-8).toLowerCase(), '--repo', root]);
      const branch = `scriptorium/${id.slice(-8).toLowerCase()}`;
      expect(applied).toMatchObject({
        code: 0,
        stdout: expect.stringContaining("The first commit is not the agent's"),
      });
      expect(git(root, 'log', '--format=%s', branch).split('\n')).toEqual([
        'Work the agent left uncommitted',
        'change a',
        'Your uncommitted work when the session started',
        'first',
      ]);
      expect(git(root, 'status', '--porcelain')).toBe('?? mine.txt');
      const taken = await cli(place, ['apply', id, '--repo', root, '--branch', 'main']);
      expect(taken).toMatchObject({ code: 1, stderr: expect.stringContaining('exists already') });

      expect((await cli(place, ['ls'])).stdout).toMatch(/idle .* please edit/);
      expect((await cli(place, ['show', id])).stdout).toContain('Edited.');
      const events = await cli(place, ['events', id, '--json']);
      const types = events.stdout
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { type: string }).type);
      expect(types[0]).toBe('user.message');
      expect(types.at(-1)).toBe('session.status_idle');
      expect((await cli(place, ['archive', id])).code).toBe(0);
      expect((await cli(place, ['rm', id])).code).toBe(0);
      expect(await cli(place, ['show', id])).toMatchObject({ code: 1 });
    },
  );

  it('says how to take the work into a repository without commits, and that works', waits, async () => {
    const place = folder();
    await up(place);
    const root = path.join(place, 'unborn');
    mkdirSync(root);
    git(root, 'init', '-q', '-b', 'main');
    writeFileSync(path.join(root, 'a.txt'), 'one\n');
    const run = await cli(place, ['run', 'please edit', '--repo', root]);
    const applied = await cli(place, ['apply', sessionIn(run.stderr), '--repo', root]);
    const advice = /^ {2}(git reset \S+ && git merge \S+) /m.exec(applied.stdout)?.[1] ?? 'false';
    execFileSync('sh', ['-c', advice], { cwd: root, stdio: 'pipe' });
    expect(git(root, 'status', '--porcelain')).toBe('');
    expect(readFileSync(path.join(root, 'a.txt'), 'utf8')).toBe('changed\n');
  });

  it('does not delete a session that runs, and names the command that stops it', waits, async () => {
    const place = folder();
    await up(place);
    const id = sessionIn((await cli(place, ['run', 'go slowly', '--detach'])).stderr);
    const refused = await cli(place, ['rm', id]);
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`scriptorium interrupt ${id}`),
    });
  });

  it('gives machines one JSON event per line and a result at the end', waits, async () => {
    const place = folder();
    await up(place);
    const run = await cli(place, ['run', 'hello', '--json']);
    const lines = run.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines[0]).toMatchObject({ type: 'cli.session', session_id: expect.stringMatching(/^sesn_/) });
    expect(lines.at(-1)).toMatchObject({ type: 'cli.result', stop_reason: 'end_turn', exit_code: 0 });
    expect(lines.some((line) => line.type === 'agent.message')).toBe(true);
    expect(run.stderr).toBe('');
  });

  it('prints no control sequence of an agent', waits, async () => {
    const place = folder();
    await up(place);
    const run = await cli(place, ['run', 'be evil']);
    expect(run.stderr).toContain('title  and  clear  and turned');
    for (const command of ['show', 'events', 'attach']) {
      const shown = await cli(place, [command, sessionIn(run.stderr)]);
      expect(`${shown.stdout}${shown.stderr}`).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202e]/);
    }
  });

  it('starts a server by itself where none runs, says so, and uses it the next time', waits, async () => {
    const place = folder();
    expect(await cli(place, ['ls'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('scriptorium up'),
    });
    const first = await cli(place, ['run', 'one'], { SCRIPTORIUM_API_KEY: '' });
    expect(first).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('started a server in the background'),
    });
    const { pid } = JSON.parse(readFileSync(path.join(place, 'data', 'server.json'), 'utf8')) as {
      pid: number;
    };
    try {
      const data = path.join(place, 'data');
      const { api_key: fresh } = JSON.parse(readFileSync(path.join(data, 'server.json'), 'utf8')) as {
        api_key: string;
      };
      const holders = execFileSync('grep', ['-rlaF', fresh, data], { encoding: 'utf8' });
      expect(holders.trim().split('\n')).toEqual([path.join(data, 'server.json')]);
      const second = await cli(place, ['run', 'two']);
      expect(second.stderr).not.toContain('started a server');
      expect(second.stderr).toContain('You said: two');
    } finally {
      process.kill(pid, 'SIGKILL');
    }
  });

  it('says what is wrong with a task, a repository or a server', async () => {
    const place = folder();
    const cases: [string[], number, string][] = [
      [['run'], 2, 'missing required argument'],
      [['run', ' '], 2, 'empty'],
      [['run', 'x', '--effort', 'huge'], 2, '--effort'],
      [['run', 'x', '--repo', '/nonexistent'], 1, 'does not exist'],
      [['run', 'x', '--url', 'nonsense'], 2, 'no http'],
      [['run', 'x', '--url', 'http://127.0.0.1:9'], 1, 'no server answers'],
      [['nonsense'], 2, 'unknown command'],
    ];
    for (const [args, code, words] of cases)
      expect(await cli(place, args), args.join(' ')).toMatchObject({
        code,
        stderr: expect.stringContaining(words),
      });
  });
});

describe('staying and leaving', () => {
  it('goes on by itself when the server is killed and comes back elsewhere', waits, async () => {
    const place = folder();
    const first = await up(place);
    const run = launch(place, ['run', 'work slowly']);
    await until(() => run.output().includes('> bash sleep 4'), 'the command runs');
    first.child.kill('SIGKILL');
    await until(() => run.output().includes('the server went away'), 'the loss is told');
    const second = await up(place);
    expect(second.url).not.toBe(first.url);
    const ended = await run.ended;
    expect(ended).toMatchObject({ code: 0, stderr: expect.stringContaining('Rested.') });
    expect(ended.stderr.match(/> bash/g)).toHaveLength(1);
  });

  it('leaves at Ctrl-C, says how to come back, and the agent goes on', waits, async () => {
    const place = folder();
    await up(place);
    const run = launch(place, ['run', 'work slowly']);
    await until(() => run.output().includes('> bash sleep 4'), 'the command runs');
    run.child.kill('SIGINT');
    const left = await run.ended;
    expect(left.code).toBe(130);
    const id = sessionIn(left.stderr);
    expect(left.stderr).toContain(`scriptorium attach ${id}`);
    expect(await cli(place, ['attach', id])).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('Rested.'),
    });
  });

  it('interrupts the agent at the second Ctrl-C', waits, async () => {
    const place = folder();
    await up(place);
    const run = launch(place, ['run', 'work slowly']);
    await until(() => run.output().includes('> bash sleep 4'), 'the command runs');
    run.child.kill('SIGINT');
    await sleep(300);
    run.child.kill('SIGINT');
    const ended = await run.ended;
    expect(ended).toMatchObject({ code: 130, stderr: expect.stringContaining('Interrupted.') });
    expect(ended.stderr).not.toContain('Rested.');
  });

  it('detaches, takes further words, interrupts from elsewhere', waits, async () => {
    const place = folder();
    await up(place);
    const detached = await cli(place, ['run', 'work slowly', '--detach', '--json']);
    expect(detached.code).toBe(0);
    const id = sessionIn(detached.stdout);
    expect((await cli(place, ['send', id, 'and then this'])).code).toBe(0);
    expect((await cli(place, ['interrupt', id])).code).toBe(0);
    const attached = await cli(place, ['attach', id]);
    expect(attached).toMatchObject({ code: 0, stderr: expect.stringContaining('You said: and then this') });
  });
});

describe('asking first', () => {
  it(
    'ends with "needs action", shows the whole call, and goes on when it is allowed or denied',
    waits,
    async () => {
      const place = folder();
      await up(place);
      const run = await cli(place, ['run', 'echo twice', '--ask']);
      expect(run.code).toBe(3);
      const id = sessionIn(run.stderr);
      expect(run.stderr).toContain(`scriptorium confirm ${id} --allow`);
      expect((await cli(place, ['ls'])).stdout).toContain('waits for you');
      expect(await cli(place, ['confirm', id])).toMatchObject({
        code: 3,
        stdout: expect.stringContaining('echo 0'),
      });
      expect((await cli(place, ['confirm', id, '--allow', '--deny'])).code).toBe(2);
      expect((await cli(place, ['confirm', id, '--allow'])).code).toBe(0);
      expect((await cli(place, ['attach', id])).code).toBe(3);
      expect((await cli(place, ['confirm', id, '--deny', 'not today'])).code).toBe(0);
      const ended = await cli(place, ['attach', id]);
      expect(ended).toMatchObject({ code: 0, stderr: expect.stringContaining('not today') });
      expect(await cli(place, ['confirm', id, '--allow'])).toMatchObject({ code: 1 });
    },
  );
});
