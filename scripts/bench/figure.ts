/** A figure, and the table that all of them make. */
import { type Sample, sampleOf } from './stats.ts';

export type Figure = {
  name: string;
  unit: 'ms' | 'MB' | 'x' | '/s';
  sample: Sample;
  /** What of the sample is told, and held against the target; absent: the median. */
  told?: 'p99' | 'max';
  /** At most this; at least this where the unit is a rate. Absent: told for the record. */
  target?: number;
  /** What a reader must know to believe it. */
  note?: string;
};

export function figure(
  name: string,
  unit: Figure['unit'],
  values: readonly number[],
  more: Pick<Figure, 'told' | 'target' | 'note'> = {},
): Figure {
  return { name, unit, sample: sampleOf(values), ...more };
}

/** Whether the target is missed. */
export function isOver(one: Figure): boolean {
  if (one.target === undefined) return false;
  return one.unit === '/s' ? toldOf(one) < one.target : toldOf(one) > one.target;
}

function toldOf({ sample, told }: Figure): number {
  return sample[told ?? 'median'];
}

const headings = ['figure', 'n', 'median', 'spread', 'target', ''];

export function tableOf(figures: readonly Figure[]): string {
  const rows = figures.map(rowOf);
  const widths = headings.map((heading, at) =>
    Math.max(heading.length, ...rows.map((row) => row[at]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, at) =>
        at === 0 || at === 5 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0),
      )
      .join('  ')
      .trimEnd();
  const lines = [line(headings), line(widths.map((width) => '-'.repeat(width)))];
  for (const [at, row] of rows.entries()) {
    lines.push(line(row));
    const { note } = figures[at] as Figure;
    if (note !== undefined) lines.push(`    ${note}`);
  }
  return lines.join('\n');
}

function rowOf(one: Figure): string[] {
  const { name, unit, sample, target, told } = one;
  // Under ten values a percentile is an invention; the ends are facts.
  const [low, high] = sample.n < 10 ? [sample.min, sample.max] : [sample.p10, sample.p90];
  const spread = sample.n === 1 ? '' : `${shown(low)}–${shown(high)}`;
  const isRate = unit === '/s';
  const verdict = target === undefined ? '' : isOver(one) ? (isRate ? 'under' : 'over') : 'ok';
  const limit = target === undefined ? '' : `${isRate ? '≥' : '≤'} ${target} ${unit}`;
  // A row of the tail has its worst value beside it.
  const beside = told === undefined ? spread : `max ${shown(sample.max)}`;
  const value = `${told === undefined ? '' : `${told} `}${shown(toldOf(one))} ${unit}`;
  return [name, String(sample.n), value, beside, limit, verdict];
}

function shown(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}
