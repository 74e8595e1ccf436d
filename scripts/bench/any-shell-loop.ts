/**
 * bash-loop for agents that are not ours: calls whichever tool that runs commands the request offers, in that tool's own
 * words. Settings as bash-loop's. A command that did not run is no step: each must say so.
 */
import type { Reply, ToolCall, Turn } from '../../rehearsal/script.ts';

const calls: Record<string, (command: string) => ToolCall['arguments']> = {
  bash: (command) => ({ command }),
  exec_command: (cmd) => ({ cmd }),
  shell_command: (command) => ({ command }),
  shell: (command) => ({ command: ['bash', '-lc', command] }),
};

const saying = 'bench-ran';

export default function anyShellLoop(turn: Turn): Reply {
  const steps = Number(turn.args.steps ?? 10);
  const said = turn.lastToolOutput?.text;
  if (said !== undefined && !said.includes(saying))
    return { fail: `the command did not run: ${said.slice(0, 500)}` };
  if (turn.step >= steps) return { text: `Done after ${turn.step} steps.` };
  const name = Object.keys(calls).find((one) => turn.tools.includes(one));
  const argumentsFor = name === undefined ? undefined : calls[name];
  if (name === undefined || argumentsFor === undefined)
    return { fail: `no tool that runs commands among: ${turn.tools.join(', ')}` };
  return { toolCalls: [{ name, arguments: argumentsFor(`echo ${saying}`) }] };
}
