/**
 * codex exec beside us: the same commands, a peer of the same script, its own wall time per step less the peer's.
 * Installed from npm into a temporary folder; no script of the package is run.
 */
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { root } from './code-under-test.ts';
import type { Figure } from './figure.ts';
import { figure } from './figure.ts';
import { startFront } from './foreign-front.ts';
import type { Peer } from './peer-process.ts';
import { atEnd } from './processes.ts';
import { overheadsOf } from './steps.ts';

const installMs = 180_000;
const runMs = 60_000;

export async function measureCodex(peer: Peer, steps: number): Promise<Figure[]> {
  const folder = await installFolder();
  const program = await install(folder);
  const unsealed = await perStep(peer, folder, program, steps, [
    '--dangerously-bypass-approvals-and-sandbox',
  ]);
  const version = await versionOf(folder);
  const name = `codex exec ${version}, per step`;
  const figures = [figure(name, 'ms', unsealed, { note: 'no sandbox at all' })];
  try {
    const sealed = await perStep(peer, folder, program, steps, ['--sandbox', 'workspace-write']);
    figures.push(figure('  in its own sandbox (workspace-write)', 'ms', sealed));
  } catch (error) {
    // Not every machine can give it one; ours is measured beside it either way.
    process.stderr.write(`bench: codex in its own sandbox: ${String(error)}\n`);
  }
  return figures;
}

/** Not the system's temporary folder: codex puts no helpers of its sandbox there, and then has none. */
async function installFolder(): Promise<string> {
  const cache = path.join(root, 'node_modules', '.cache');
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(path.join(cache, 'bench-codex-'));
  atEnd(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function install(folder: string): Promise<string> {
  await writeFile(path.join(folder, 'package.json'), '{"private":true}');
  const npm = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--silent', '@openai/codex'];
  await run('npm', npm, { cwd: folder, env: process.env, limitMs: installMs });
  return path.join(folder, 'node_modules', '@openai', 'codex', 'bin', 'codex.js');
}

async function versionOf(folder: string): Promise<string> {
  const manifest = path.join(folder, 'node_modules', '@openai', 'codex', 'package.json');
  return (JSON.parse(await readFile(manifest, 'utf8')) as { version: string }).version;
}

async function perStep(
  peer: Peer,
  folder: string,
  program: string,
  steps: number,
  flags: string[],
): Promise<number[]> {
  const front = await startFront(peer.url);
  const [home, work] = [path.join(folder, 'home'), path.join(folder, 'work')];
  for (const place of [home, work]) await mkdir(place, { recursive: true });
  await writeFile(path.join(home, 'config.toml'), configFor(front.url));
  const prompt = JSON.stringify({ steps: String(steps), any: 'yes' });
  const env = { PATH: process.env.PATH, HOME: home, CODEX_HOME: home, BENCH_KEY: peer.apiKey };
  try {
    await run(process.execPath, [program, 'exec', '--skip-git-repo-check', ...flags, prompt], {
      cwd: work,
      env,
      limitMs: runMs,
    });
  } finally {
    front.stop();
  }
  const refused = front.records.find(({ problem }) => problem !== null);
  if (refused !== undefined) throw new Error(`codex was answered with ${refused.problem}`);
  if (front.records.length !== steps + 1)
    throw new Error(`codex made ${front.records.length} requests for ${steps} steps`);
  return overheadsOf(front.records).slice(1);
}

function configFor(url: string): string {
  return [
    'model = "rehearsal-1"',
    'model_provider = "rehearsal"',
    '[model_providers.rehearsal]',
    'name = "rehearsal"',
    `base_url = "${url}"`,
    'env_key = "BENCH_KEY"',
    'wire_api = "responses"',
    '',
  ].join('\n');
}

function run(
  program: string,
  args: string[],
  options: { cwd: string; env: NodeJS.ProcessEnv; limitMs: number },
): Promise<void> {
  return new Promise((resolve, reject) => {
    const { cwd, env, limitMs } = options;
    const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said = `${said}${chunk.toString()}`.slice(-2_000);
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), limitMs);
    atEnd(async () => void child.kill('SIGKILL'));
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      clearTimeout(timer);
      if (code === 0) resolve();
      else reject(new Error(`${program} ended with ${code ?? signal}: ${said.trim().slice(-500)}`));
    });
  });
}
