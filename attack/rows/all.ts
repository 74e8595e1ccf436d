/** Every row, in the order of the report. */
import type { ProbeRow, Row } from '../row.ts';
import { homewardRows } from './homeward.ts';
import { insideRows } from './inside.ts';
import { type Answers, kernelAnswers, kernelChoices } from './kernel.ts';
import { namespaceAnswers } from './namespace.ts';
import { outwardRows } from './outward.ts';

function probes(program: 'kernel' | 'network', answers: Answers): ProbeRow[] {
  return Object.entries(answers).flatMap(([answer, names]) =>
    names.map((name) => ({
      id: `${program === 'kernel' ? 'kernel' : 'namespace'}.${name}`,
      title: `${name} is refused with ${answer}`,
      promises: program === 'kernel' ? (['S3', 'S5'] as const) : (['S2'] as const),
      room: program === 'kernel' ? ('sealed' as const) : ('network' as const),
      probe: { program, name, answers: [answer] },
    })),
  );
}

function choices(answers: Answers): ProbeRow[] {
  return Object.entries(answers).map(([name, refusals]) => ({
    id: `kernel.${name}`,
    title: `${name} is refused with ${refusals.join(' or ')}`,
    promises: ['S3'],
    room: 'sealed',
    probe: { program: 'kernel', name, answers: refusals },
  }));
}

export const rows: readonly Row[] = [
  ...probes('kernel', kernelAnswers),
  ...choices(kernelChoices),
  ...probes('network', namespaceAnswers),
  ...insideRows,
  ...outwardRows,
  ...homewardRows,
];
