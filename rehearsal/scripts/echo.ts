/** Answers every message with its own text, or with the last tool output where there is one. */
import type { Reply, Turn } from '../script.ts';

export default function echo(turn: Turn): Reply {
  if (turn.lastToolOutput !== null) return { text: turn.lastToolOutput.text };
  return { text: turn.userText === '' ? 'I received no message.' : turn.userText };
}
