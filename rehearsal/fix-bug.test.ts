// The demo script against a real project: real files, real `node --test`, real git, over real HTTP.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Rehearsal, startRehearsal } from './peer.ts';
import type { JsonObject } from './script.ts';
import fixBug, { facts } from './scripts/fix-bug.ts';

let workspace: string;
let peer: Rehearsal;

beforeEach(async () => {
  workspace = mkdtempSync(join(tmpdir(), 'fix-bug-'));
  for (const directory of ['src', 'test']) mkdirSync(join(workspace, directory));
  writeFileSync(join(workspace, 'package.json'), '{"type":"module"}');
  writeFileSync(
    join(workspace, facts.sourcePath),
    `const units = {\n  s: 1_000,\n  ${facts.bugLine}\n  h: 3_600_000,\n};\n
export function parseDuration(text) {\n  return Number(text.slice(0, -1)) * units[text.at(-1)];\n}\n`,
  );
  writeFileSync(
    join(workspace, facts.testPath),
    `import assert from 'node:assert/strict';\nimport { test } from 'node:test';
import { parseDuration } from '../src/duration.js';\n
test('reads minutes', () => assert.equal(parseDuration('5m'), 300_000));\n`,
  );
  writeFileSync(join(workspace, 'soak.sh'), '#!/bin/sh\necho started\necho ended\n', { mode: 0o755 });
  const git = (...args: string[]): unknown => execFileSync('git', args, { cwd: workspace });
  git('init', '-q');
  git('config', 'user.name', 'A');
  git('config', 'user.email', 'a@example.com');
  git('add', '-A');
  git('commit', '-qm', 'Start');
  peer = await startRehearsal({ script: fixBug, args: { workspace } });
});

afterEach(async () => {
  await peer.stop();
  rmSync(workspace, { recursive: true });
});

function runTool(name: string, input: Record<string, string>): string {
  if (name === 'read') return readFileSync(input.file_path ?? '', 'utf8');
  if (name === 'edit') {
    const path = input.file_path ?? '';
    const before = readFileSync(path, 'utf8');
    writeFileSync(path, before.replace(input.old_string ?? '', input.new_string ?? ''));
    return 'Edited.';
  }
  const path = [dirname(process.execPath), process.env.PATH].join(delimiter);
  const env = { ...process.env, PATH: path, NODE_OPTIONS: '' };
  const done = spawnSync('sh', ['-c', input.command ?? ''], { cwd: workspace, env, encoding: 'utf8' });
  return `${done.stdout}${done.stderr}`;
}

async function ask(input: JsonObject[]): Promise<{ status: number; body: { output: JsonObject[] } }> {
  const tools = ['bash', 'read', 'edit'].map((name) => ({
    type: 'function',
    name,
    parameters: { type: 'object' },
  }));
  const body = JSON.stringify({ model: 'rehearsal-1', tools, store: false, prompt_cache_key: 'demo', input });
  const headers = { authorization: 'Bearer any-key', 'content-type': 'application/json' };
  const response = await fetch(`${peer.url}/responses`, { method: 'POST', headers, body });
  return { status: response.status, body: (await response.json()) as { output: JsonObject[] } };
}

/** The smallest agent loop there is; `tamper` changes what the model gets to see. */
async function runDemo(tamper: (output: string) => string = (output) => output): Promise<JsonObject[]> {
  const input: JsonObject[] = [{ type: 'message', role: 'user', content: facts.prompt }];
  for (let step = 0; step < 20; step += 1) {
    const { status, body } = await ask(input);
    if (status !== 200) break;
    input.push(...body.output);
    const calls = body.output.filter((item) => item.type === 'function_call');
    if (calls.length === 0) break;
    for (const call of calls) {
      const output = tamper(runTool(String(call.name), JSON.parse(String(call.arguments))));
      input.push({ type: 'function_call_output', call_id: call.call_id ?? '', output });
    }
  }
  return input;
}

describe('the demo script', () => {
  it('fixes the bug, in the order of someone who looks before acting', async () => {
    const items = await runDemo();
    expect(peer.failures).toEqual([]);
    const calls = items.filter((item) => item.type === 'function_call').map((item) => item.name);
    expect(calls).toEqual(['bash', 'read', 'read', 'edit', 'bash', 'bash', 'bash']);
    expect(JSON.stringify(items.at(-1))).toContain(facts.finalText);
    expect(readFileSync(join(workspace, facts.sourcePath), 'utf8')).toContain(facts.fixLine);
    const log = execFileSync('git', ['log', '--format=%s', facts.branch], {
      cwd: workspace,
      encoding: 'utf8',
    });
    expect(log).toBe(`${facts.commitMessage}\nStart\n`);
  });

  it('fails, and says what the model saw, when the tests do not fail at first', async () => {
    await runDemo((output) => output.replace(/fail 1/, 'fail 0'));
    expect(peer.failures).toHaveLength(1);
    expect(peer.failures[0]).toContain('has no failing test');
  });

  it('fails when the fix did not help', async () => {
    let runs = 0;
    await runDemo((output) =>
      /fail \d/.test(output) && runs++ > 0 ? output.replace(/fail 0/, 'fail 1') : output,
    );
    expect(peer.failures[0]).toContain('the second test run does not pass');
  });

  it('fails when the soak was lost with its engine', async () => {
    await runDemo((output) => (output.includes('started') ? '[error]\nIn doubt.' : output));
    expect(peer.failures[0]).toContain('the soak failed');
  });
});
