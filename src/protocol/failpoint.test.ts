import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { failpoints, parseFailpoints } from './failpoint.ts';

const module = new URL('./failpoint.ts', import.meta.url).href;

function inProcess(armed: string, code: string) {
  const script = `const { failpoint, failpointNow, sabotaged, clockMs, failpoints } = await import('${module}');\n${code}`;
  return spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    env: { SCRIPTORIUM_FAILPOINTS: armed },
    encoding: 'utf8',
    timeout: 20_000,
  });
}

it('is off where the environment says nothing', () => {
  expect(failpoints.on).toBe(false);
});

it('reads places, actions and hits, and refuses what it does not know', () => {
  expect(parseFailpoints('engine.after-fold=block:7@2+')).toEqual([
    {
      name: 'engine.after-fold',
      action: { type: 'block', ms: 7 },
      from: 2,
      to: Number.POSITIVE_INFINITY,
    },
  ]);
  expect(parseFailpoints('engine.after-claim=kill@3; host.before-reply=stall:500;clock=jump:-9@2-4')).toEqual(
    [
      { name: 'engine.after-claim', action: { type: 'kill' }, from: 3, to: 3 },
      { name: 'host.before-reply', action: { type: 'stall', ms: 500 }, from: 1, to: 1 },
      { name: 'clock', action: { type: 'jump', ms: -9 }, from: 2, to: 4 },
    ],
  );
  for (const bad of ['engine.nowhere=kill', 'clock', 'clock=jump', 'clock=explode:1', 'clock=jump:1@x'])
    expect(() => parseFailpoints(bad), bad).toThrow(/failpoint/);
});

it('kills at the hit that was named, not before', () => {
  const ended = inProcess(
    'engine.after-claim=kill@2',
    `await failpoint('engine.after-claim'); process.stdout.write('one ');
     await failpoint('engine.after-claim'); process.stdout.write('two');`,
  );
  expect(ended.signal).toBe('SIGKILL');
  expect(ended.stdout).toBe('one ');
  expect(ended.stderr).toContain('failpoint engine.after-claim kill at hit 2');
});

it('blocks the whole thread, where a stall lets others go on', () => {
  const ended = inProcess(
    'engine.after-claim=stall:30;engine.after-fold=block:30',
    `let turns = 0;
     setInterval(() => { turns += 1; }, 1).unref();
     await failpoint('engine.after-claim');
     const before = turns;
     await failpoint('engine.after-fold');
     console.log(JSON.stringify([before > 0, turns - before]));`,
  );
  expect(JSON.parse(ended.stdout)).toEqual([true, 0]);
});

it('fails with the code, drops, duplicates, lies and moves the clock', () => {
  const armed =
    'store.before-commit=error:ENOSPC@2+;host.before-reply=drop@1;host.before-reply=duplicate@2;clock=jump:60000@2;sabotage.no-intent=lie@2';
  const ended = inProcess(
    armed,
    `const code = () => { try { return failpointNow('store.before-commit'); } catch (error) { return [error.code, error.errcode]; } };
     const before = clockMs();
     console.log(JSON.stringify({
       codes: [code(), code(), code()],
       replies: [await failpoint('host.before-reply'), await failpoint('host.before-reply'), await failpoint('host.before-reply')],
       lies: [sabotaged('sabotage.no-intent'), sabotaged('sabotage.no-intent')],
       jumped: clockMs() - before >= 60000,
     }));`,
  );
  expect(JSON.parse(ended.stdout)).toEqual({
    codes: [null, ['ENOSPC', 13], ['ENOSPC', 13]],
    replies: ['drop', 'duplicate', null],
    lies: [false, true],
    jumped: true,
  });
});
