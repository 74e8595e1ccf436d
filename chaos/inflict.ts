/** Does to the processes and the wires what the plan says, until it is told to stop, and counts what it really did. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Fault, FaultKind, Plan } from './plan.ts';
import { signal } from './process-table.ts';
import type { Stage } from './stage.ts';
import type { Role, Topology, Wires } from './topology.ts';

export type Inflicted = Partial<Record<FaultKind, number>>;

type Battlefield = { plan: Plan; stage: Stage; topology: Topology };

export type Strike = { atMs: number; fault: Fault };

export async function inflict(field: Battlefield, until: AbortSignal, strikes: Strike[]): Promise<Inflicted> {
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
    if (!isDone) continue;
    strikes.push({ atMs: Date.now(), fault });
    counts[fault.kind] = (counts[fault.kind] ?? 0) + 1;
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
      return attackWires(fault, topology.databaseWires, choice);
    case 'cut-one-of-engine':
    case 'cut-engine':
    case 'delay-engine':
    case 'lose-to-engine':
    case 'lose-from-engine':
    case 'partition-engine':
      return attackWires(fault, topology.engineWires, choice);
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

type OfWires = Exclude<
  Extract<Fault, { kind: `${string}-${'database' | 'engine'}` }>,
  { kind: 'kill-database' }
>;

function attackWires(fault: OfWires, wires: Wires | null, choice: number): boolean {
  switch (fault.kind) {
    case 'cut-one-of-database':
    case 'cut-one-of-engine':
      wires?.cutOne(choice);
      break;
    case 'cut-database':
    case 'cut-engine':
      wires?.cut(choice);
      break;
    case 'partition-database':
    case 'partition-engine':
      wires?.partition(choice, fault.ms);
      break;
    case 'delay-engine':
      wires?.delay(choice, fault.ms, fault.byMs);
      break;
    case 'lose-to-engine':
      wires?.lose(choice, fault.ms, 'requests');
      break;
    case 'lose-from-engine':
      wires?.lose(choice, fault.ms, 'replies');
      break;
  }
  return wires !== null;
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
