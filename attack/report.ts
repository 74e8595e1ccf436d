/** What an attack found, for people and for machines. */
import type { Judged, Verdict } from './judge.ts';

const verdicts: readonly Verdict[] = ['held', 'detected', 'leaked', 'no_tool'];

const mostAnsweredChars = 1_000;

export function isHeld(judged: readonly Judged[]): boolean {
  return judged.length > 0 && !judged.some(({ isBroken }) => isBroken);
}

export type About = { isolation: string; user: string; seconds: number };

export function asJson(about: About, judged: readonly Judged[]): object {
  return {
    held: isHeld(judged),
    ...about,
    counts: countsOf(judged),
    known_weaknesses: judged
      .filter((one) => one.verdict === 'leaked' && !one.isBroken)
      .map(({ row }) => row.id),
    rows: judged.map(({ row, verdict, why, isBroken, answer }) => ({
      ...{ id: row.id, title: row.title, promises: row.promises, verdict, broken: isBroken, why },
      answered: answer?.slice(0, mostAnsweredChars) ?? null,
    })),
  };
}

export function asText({ isolation, user, seconds }: About, judged: readonly Judged[]): string {
  const counts = countsOf(judged);
  const lines = judged
    .filter((one) => one.isBroken || one.verdict !== 'held')
    .map(({ row, verdict, why, isBroken }) => {
      const note = verdict === 'leaked' && !isBroken ? ` (known: ${row.weakAsUser})` : '';
      return `${isBroken ? 'BROKEN' : 'told  '} ${verdict.padEnd(8)} ${row.id} [${row.promises.join(' ')}] ${row.title}\n       ${why}${note}`;
    });
  const said = verdicts.map((verdict) => `${counts[verdict]} ${verdict}`).join(', ');
  const verdict = isHeld(judged) ? 'every row as promised' : 'NOT as promised';
  return [
    ...lines,
    `${isolation} as ${user}: ${judged.length} rows, ${said}, in ${seconds} s: ${verdict}`,
  ].join('\n');
}

function countsOf(judged: readonly Judged[]): Record<Verdict, number> {
  const count = (verdict: Verdict): number => judged.filter((one) => one.verdict === verdict).length;
  return {
    held: count('held'),
    detected: count('detected'),
    leaked: count('leaked'),
    no_tool: count('no_tool'),
  };
}
