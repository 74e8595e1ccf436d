import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, describe, expect, it } from 'vitest';

let child: ChildProcess | null = null;
afterEach(() => void child?.kill('SIGKILL'));

async function run(...args: string[]): Promise<{ url: string; process: ChildProcess }> {
  const main = join(import.meta.dirname, 'main.ts');
  const started = spawn(process.execPath, [main, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  child = started;
  const [line] = (await once(createInterface({ input: started.stdout }), 'line')) as [string];
  return { url: (JSON.parse(line) as { url: string }).url, process: started };
}

describe('the rehearsal as a program', () => {
  it('says where it listens, answers from the script named, and ends on SIGTERM', async () => {
    const { url, process: started } = await run('--script', 'bash-loop', '--arg', 'steps=0');
    const response = await fetch(`${url}/responses`, {
      method: 'POST',
      headers: { authorization: 'Bearer k', 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'rehearsal-1', input: 'Go' }),
    });
    expect(await response.text()).toContain('Done after 0 steps.');
    const models = await fetch(`${url}/models`, { headers: { authorization: 'Bearer k' } });
    expect(await models.json()).toMatchObject({ data: [{ id: 'rehearsal-1' }] });
    started.kill('SIGTERM');
    expect(await once(started, 'exit')).toEqual([0, null]);
  });

  it('does not outlive the one who started it', async () => {
    const { process: started } = await run('--exit-with-parent');
    started.stdin?.end();
    expect(await once(started, 'exit')).toEqual([0, null]);
  });
});
