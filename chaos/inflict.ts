/** Does to the processes and the wires what the plan says, until it is told to stop, and counts what it really did. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Fault, FaultKind, Plan } from './plan.ts';
import { signal } from './process-table.ts';
import type { Stage } from './stage.ts';
import type { Role, Topology } from './topology.ts';

export type Inflicted = Partial<Record<FaultKind, number>>;

type Battlefield = { plan: Plan; stage: Stage; topology: Topology };

export async function inflict(field: Battlefield, until: AbortSignal): Promise<Inflicted> {
  const counts: Inflicted = {};
  const underWay = new Set<Promise<void>>();
  const choices = field.plan.random('choices');
  while (!until.aborted) {
    const { afterMs, fault } = field.plan.next();
    await untilServing(field.topology, until);
    await sleep(afterMs, undefined, { signal: until }).catch(() => {});
    if (until.aborted) break;
    const isDone = strike(fault, field, choices.between(0, 1_000), (work) => {
      underWay.add(work);
      void work.finally(() => underWay.delete(work));
    });
    if (isDone) counts[fault.kind] = (counts[fault.kind] ?? 0) + 1;
  }
  await Promise.all(underWay);
  return counts;
}

/** On a slow machine a server that is killed while it starts would never do any work that could be attacked. */
const patienceMs = 20_000;

async function untilServing(topology: Topology, until: AbortSignal): Promise<void> {
  const endMs = performance.now() + patienceMs;
  while (topology.address() === null && !until.aborted && performance.now() < endMs) await sleep(20);
}

function strike(
  fault: Fault,
  field: Battlefield,
  choice: number,
  later: (work: Promise<void>) => void,
): boolean {
  const { stage, topology } = field;
  switch (fault.kind) {
    case 'kill-server':
      return topology.kill('server', choice);
    case 'kill-database':
      return topology.kill('database', choice);
    case 'cut-one-of-database':
    case 'cut-database':
    case 'partition-database':
      return attackDatabase(fault, topology, choice);
    case 'kill-host':
      return topology.kill('host', choice);
    case 'freeze-server':
      return freeze(topology, 'server', fault.ms, choice, later);
    case 'freeze-host':
      return freeze(topology, 'host', fault.ms, choice, later);
    case 'cut-clients':
      stage.clientWire.cut();
      return true;
    case 'lose-replies':
      stage.clientWire.loseReplies(fault.ms);
      return true;
    case 'delay-clients':
      stage.clientWire.delay(fault.ms, fault.byMs);
      return true;
    case 'refuse-clients':
      stage.clientWire.refuse(fault.ms);
      return true;
    case 'cut-model':
      stage.modelWire.cut();
      return true;
    case 'model-weather':
      stage.changeWeather(fault.weather, fault.ms);
      return true;
  }
}

function attackDatabase(
  fault: Extract<Fault, { kind: 'cut-one-of-database' | 'cut-database' | 'partition-database' }>,
  { databaseWires }: Topology,
  choice: number,
): boolean {
  if (fault.kind === 'partition-database') databaseWires?.partition(choice, fault.ms);
  else if (fault.kind === 'cut-database') databaseWires?.cut(choice);
  else databaseWires?.cutOne(choice);
  return databaseWires !== null;
}

function freeze(
  topology: Topology,
  role: Role,
  ms: number,
  choice: number,
  later: (work: Promise<void>) => void,
): boolean {
  const pid = topology.pidOf(role, choice);
  if (pid === null || !signal(pid, 'SIGSTOP')) return false;
  later(sleep(ms).then(() => void signal(pid, 'SIGCONT')));
  return true;
}
