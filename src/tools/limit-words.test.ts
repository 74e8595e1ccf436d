import { describe, expect, it } from 'vitest';
import { MemoryExecutor } from '../../test/peers/memory-executor.ts';
import { textOf } from '../protocol/content.ts';
import type { LimitHit } from '../sandbox/limits.ts';
import { bash } from './bash.ts';

const hit = (limit: LimitHit['limit'], value: number, amount: number | null = null): LimitHit => ({
  ...{ limit, value, amount, atMs: 0 },
});

/** What the model reads of a command that ended so. */
async function told(exit: object, limits: LimitHit[], written = 'half\n') {
  const executor = MemoryExecutor.running('sesn_1');
  executor.script = (process) => process.write(written).exit({ ...exit, limits });
  const signal = new AbortController().signal;
  const context = { session: 'sesn_1', fence: 1, callId: 'c', cwd: '/workspace', executor, signal };
  const outcome = await bash.run({ command: 'make', timeout_ms: 60_000 }, context);
  return { text: textOf(outcome.content), isError: outcome.isError, limits: outcome.limits };
}

describe('a model is told of', () => {
  it('a wall time that was less than it had asked for, by its real value', async () => {
    const reached = [hit('wall_time_ms', 2_000)];
    const { text, limits } = await told({ endedBy: 'timeout', signal: 'SIGKILL' }, reached);
    expect(text).toBe(
      'half\n\n[The call reached the time limit of 2 s for one call, and was killed with everything it had started.]',
    );
    expect(limits).toEqual(reached);
  });

  it('memory that a child of it lacked, though the command went on', async () => {
    const { text, isError } = await told({}, [hit('memory_bytes', 256 << 20, 2)]);
    expect([text, isError]).toEqual([
      'half\n\n[The sandbox reached its memory limit of 256 MiB: 2 processes were killed.]',
      false,
    ]);
  });

  it('memory that it lacked itself, once', async () => {
    const { text } = await told({ endedBy: 'memory', signal: 'SIGKILL' }, [
      hit('memory_bytes', 256 << 20, 1),
    ]);
    expect(text.match(/256 MiB/g)).toHaveLength(1);
    expect(text).toContain('ran out of memory');
  });

  it.each([
    [hit('processes', 128, 1), 'its limit of 128 processes: 1 start of a process or thread failed'],
    [hit('cpu_cores', 0.5, 3_400), '0.5 processor cores: its programs were held back for 3.4 s'],
    [hit('output_bytes', 4096, 99), 'output limit of 4 KiB: 99 more bytes were not kept'],
  ])('%j', async (reached, words) => {
    expect((await told({}, [reached])).text).toContain(words);
  });

  it('the end of its sandbox, as an error', async () => {
    const { text, isError } = await told({ endedBy: 'lifetime' }, [hit('lifetime_ms', 60_000)]);
    expect([isError, text]).toEqual([true, expect.stringContaining('lifetime of 60 s')]);
  });
});
