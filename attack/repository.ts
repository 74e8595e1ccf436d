/**
 * The way home of a hostile repository: `run --repo`, then `show` and `apply` by a person who trusts the machine more than
 * the agent. What git may run or write there is looked at in the folder that everybody may write.
 */
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { programFile } from '../chaos/processes.ts';
import type { ScriptRow } from './row.ts';
import type { Stage } from './stage.ts';

export type TakenHome = { session: string | null; answer: string };

/** Its session, and everything that was printed. */
export async function takeHome(
  stage: Stage,
  row: ScriptRow,
  { environment, variables }: { environment: string; variables: Record<string, string> },
): Promise<TakenHome> {
  const repository = path.join(stage.folder, `repository-${variables.NONCE}`);
  makeRepository(repository);
  const message = stage.model.plan(row.calls, variables);
  const ran = await cli(stage, [
    'run',
    message,
    '--repo',
    repository,
    '--environment',
    environment,
    '--model',
    'gpt-5.2-codex',
    '--json',
  ]);
  const session = /"session_id":"(sesn_\w+)"/.exec(ran)?.[1] ?? null;
  if (session === null) return { session, answer: ran };
  const shown = await cli(stage, ['show', session]);
  const applied = await cli(stage, ['apply', session, '--repo', repository]);
  const looked = git(repository, ['for-each-ref', '--format=%(refname)']);
  return { session, answer: [toolOutputs(ran), shown, applied, looked].join('\n') };
}

function makeRepository(folder: string): void {
  mkdirSync(folder);
  git(folder, ['init', '-q', '-b', 'main', '.']);
  writeFileSync(path.join(folder, 'README'), 'a project\n');
  git(folder, ['add', 'README']);
  git(folder, ['-c', 'user.name=t', '-c', 'user.email=t@t.example', 'commit', '-q', '-m', 'first']);
}

function git(folder: string, args: readonly string[]): string {
  const env = { PATH: process.env.PATH ?? '', HOME: folder, GIT_CONFIG_NOSYSTEM: '1' };
  return execFileSync('git', ['-C', folder, ...args], { encoding: 'utf8', env });
}

function toolOutputs(ran: string): string {
  const lines = ran.split('\n').filter((line) => line.includes('"agent.tool_result"'));
  return lines.map((line) => JSON.stringify((JSON.parse(line) as { content: unknown }).content)).join('\n');
}

async function cli(stage: Stage, args: readonly string[]): Promise<string> {
  const place = ['--url', stage.url, '--api-key', stage.apiKey];
  const flags = ['--disable-warning=ExperimentalWarning', programFile('src/cli/main')];
  const env = { PATH: process.env.PATH ?? '', HOME: stage.folder, NO_COLOR: '1' };
  const said = await promisify(execFile)(process.execPath, [...flags, ...args, ...place], { env }).catch(
    (error: { stdout?: string; stderr?: string }) => ({
      stdout: error.stdout ?? '',
      stderr: error.stderr ?? '',
    }),
  );
  return `${said.stdout}${said.stderr}`;
}
