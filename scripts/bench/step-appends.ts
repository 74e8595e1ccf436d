/**
 * The two appends of a step as api and engine really made them, to be made again on streams of the bench: the answer with
 * the intent of its tool call, and the result with the intent of the next model call.
 */
import type { Append } from '../../src/store/store.ts';
import type { Peer } from './peer-process.ts';
import { recordedAppends } from './waterfall.ts';

/** Without what only the caller knows: fence and expected sequence. */
export type StepAppends = {
  create(stream: string): Append;
  /** For one stream at a time, in order. Fresh ids each time, or the second step would be a repetition of the first. */
  step(stream: string): { intent: Append; result: Append };
  note: string;
};

const steps = 8;
const idPattern = /\b[a-z]{3,6}_[0-9A-Z]{26}\b/g;

export async function recordStep(peer: Peer, isIsolated: boolean): Promise<StepAppends> {
  const all = await recordedAppends(peer, isIsolated, steps);
  const created = all.find(({ create, stream }) => create === true && stream.startsWith('sesn_'));
  const log = all.filter(({ stream }) => stream === created?.stream);
  const hasType = (append: Append, type: string): boolean => append.events.some((one) => one.type === type);
  // The last ones: the first steps bring the sandbox up, and that is in their appends.
  const intentAt = log.findLastIndex((append) => hasType(append, 'agent.tool_use'));
  const [intent, result] = [log[intentAt], log[intentAt + 1]];
  if (created === undefined || intent === undefined || result === undefined)
    throw new Error('a session of which no step was recorded');
  if (!hasType(intent, 'intent') || !hasType(result, 'agent.tool_result'))
    throw new Error('a step is no longer two appends');
  const before = new Set(JSON.stringify(log.slice(0, intentAt)).match(idPattern) ?? []);
  // Each step settles the model call that the one before it reserved.
  const [settled, reserved] = [intent.reservation, result.reservation];
  if (settled?.op !== 'settle' || reserved?.op !== 'reserve')
    throw new Error('the answer no longer settles a call, or the result reserves none');
  let open = settled.id;
  return {
    create: (stream) => ({
      ...renamed(created, created.stream, stream, new Map()),
      reservation: { ...reserved, id: open },
    }),
    step: (stream) => {
      const minted = new Map([...before].map((id) => [id, id])).set(settled.id, open);
      const again = (append: Append): Append => renamed(append, created.stream, stream, minted);
      const step = { intent: again(intent), result: again(result) };
      open = minted.get(reserved.id) ?? open;
      return step;
    },
    note: `${described('the answer with its intent', intent)}; ${described('the result with the next', result)}`,
  };
}

let count = 0;

/** The same append on another stream; ids that `minted` does not know are new ones of the same length. */
function renamed(append: Append, from: string, to: string, minted: Map<string, string>): Append {
  const { request: _, fence: __, expectedSeq: ___, ...rest } = append;
  const text = JSON.stringify(rest).replaceAll(idPattern, (id) => {
    if (id === from) return to;
    const known = minted.get(id);
    if (known !== undefined) return known;
    count += 1;
    const prefix = id.slice(0, id.indexOf('_') + 1);
    const fresh = `${prefix}${String(count).padStart(26, '0')}`;
    minted.set(id, fresh);
    return fresh;
  });
  return JSON.parse(text) as Append;
}

function described(name: string, append: Append): string {
  const sizeBytes = append.events.reduce(
    (sum, one) => sum + JSON.stringify(one.public).length + JSON.stringify(one.private ?? '').length,
    0,
  );
  return `${name}: ${append.events.length} events, ${(sizeBytes / 1024).toFixed(1)} KB of payload`;
}
