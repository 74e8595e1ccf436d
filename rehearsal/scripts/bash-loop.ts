/**
 * N steps of one `bash` call each, then a text: the load of the bench. Settings: `steps` (or REHEARSAL_STEPS, default
 * 10), `command` (default `true`), `reasoning` (characters of reasoning in each step, default none).
 */
import type { Reply, Turn } from '../script.ts';

const defaultSteps = 10;

export default function bashLoop(turn: Turn): Reply {
  const steps = Number(turn.args.steps ?? process.env.REHEARSAL_STEPS ?? defaultSteps);
  const reasoningChars = Number(turn.args.reasoning ?? 0);
  if (turn.toolOutputs.length !== turn.step) {
    return {
      fail: `after ${turn.step} calls there should be as many outputs, not ${turn.toolOutputs.length}`,
    };
  }
  if (turn.step >= steps) return { text: `Done after ${turn.step} steps.` };
  return {
    ...(reasoningChars > 0 ? { reasoning: `Step ${turn.step}. `.padEnd(reasoningChars, 'Thinking. ') } : {}),
    toolCalls: [{ name: 'bash', arguments: { command: turn.args.command ?? 'true' } }],
  };
}
