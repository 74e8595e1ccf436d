/** Every row, in the order of the report. */
import { isProbe, type ProbeRow, type Row } from '../row.ts';
import { bombRows } from './bombs.ts';
import { gvisorAnswers, gvisorNamespaceAnswers } from './gvisor.ts';
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

const stock: readonly Row[] = [
  ...probes('kernel', kernelAnswers),
  ...choices(kernelChoices),
  ...probes('network', namespaceAnswers),
  ...insideRows,
  ...bombRows,
  ...outwardRows,
  ...homewardRows,
];

/** As that isolation must answer. */
export function rowsFor(isolation: 'bubblewrap' | 'gvisor'): readonly Row[] {
  return isolation === 'gvisor' ? stock.map(inGvisor) : stock;
}

/** What its own kernel says in other words, or does by itself and for that sandbox alone. */
function inGvisor(row: Row): Row {
  if (!isProbe(row)) return row;
  const { program, name } = row.probe;
  const answers = (program === 'kernel' ? gvisorAnswers : gvisorNamespaceAnswers)[name];
  if (answers === undefined) return row;
  const title = `${name} is answered by gVisor itself with ${answers.join(' or ')}`;
  return { ...row, title, probe: { ...row.probe, answers } };
}
