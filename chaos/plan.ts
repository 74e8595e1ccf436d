/**
 * What goes wrong and in which order: all of it from the seed. Pure.
 *
 * Two streams. *Lives*: each start of a server is armed with failpoints, so that every place where a kill can matter is
 * visited in turn. *Faults*: what is done to the running processes and to the wires between them.
 */
import type { FailpointName } from '../src/protocol/failpoint.ts';
import { failpointNames } from '../src/protocol/failpoint.ts';
import type { Random } from './random.ts';
import { randomOf } from './random.ts';

/** What the model's provider does for a while. */
export type ModelWeather = 'rate_limit' | 'overloaded' | 'broken_stream' | 'cut_stream' | 'stall';

export type Fault =
  | { kind: 'kill-server' }
  | { kind: 'freeze-server'; ms: number }
  | { kind: 'kill-host' }
  | { kind: 'freeze-host'; ms: number }
  | { kind: 'cut-clients' }
  | { kind: 'lose-replies'; ms: number }
  | { kind: 'delay-clients'; ms: number; byMs: number }
  | { kind: 'refuse-clients'; ms: number }
  | { kind: 'cut-model' }
  | { kind: 'model-weather'; weather: ModelWeather; ms: number }
  /** Only where servers share a database. */
  | { kind: 'kill-database' }
  | { kind: 'cut-one-of-database' }
  | { kind: 'cut-database' }
  | { kind: 'partition-database'; ms: number }
  /** Only where engines and hosts are apart. */
  | { kind: 'cut-one-of-engine' }
  | { kind: 'cut-engine' }
  | { kind: 'delay-engine'; ms: number; byMs: number }
  | { kind: 'lose-to-engine' | 'lose-from-engine'; ms: number }
  | { kind: 'partition-engine'; ms: number };

export type FaultKind = Fault['kind'];

export type Planned = { afterMs: number; fault: Fault };

/** Which places a process has: all of them where a server hands its own to the host that it starts. */
export type Scope = 'all' | 'server' | 'host';

export type PlanOptions = {
  /** How long it is quiet between two faults, on average. */
  paceMs?: number;
  /** Whether database and hosts are beside the servers, to be attacked too, with the wires between them. */
  isFleet?: boolean;
};

export type Plan = {
  /** The next thing to do; there is always one. */
  next(): Planned;
  /** SCRIPTORIUM_FAILPOINTS of the next server that is started. */
  nextLife(scope: Scope): string;
  /** For whatever else has to be drawn, in an order of its own. */
  random(name: string): Random;
};

const weathers: readonly ModelWeather[] = [
  'rate_limit',
  'overloaded',
  'broken_stream',
  'cut_stream',
  'stall',
];

/** How often each kind comes, in relation to the others. */
const weights: readonly [FaultKind, number][] = [
  ['kill-server', 6],
  ['freeze-server', 2],
  ['kill-host', 2],
  ['freeze-host', 1],
  ['cut-clients', 2],
  ['lose-replies', 2],
  ['delay-clients', 1],
  ['refuse-clients', 1],
  ['cut-model', 1],
  ['model-weather', 2],
];

/** The same, where there are a database and hosts of their own. */
const fleetWeights: readonly [FaultKind, number][] = [
  ['kill-database', 1],
  ['cut-one-of-database', 3],
  ['cut-database', 2],
  ['partition-database', 1],
  ['cut-one-of-engine', 2],
  ['cut-engine', 1],
  ['delay-engine', 1],
  ['lose-to-engine', 1],
  ['lose-from-engine', 1],
  ['partition-engine', 1],
];

function weighted(list: readonly [FaultKind, number][]): FaultKind[] {
  return list.flatMap(([kind, weight]) => Array<FaultKind>(weight).fill(kind));
}

export function planOf(seed: number, { paceMs = 700, isFleet = false }: PlanOptions = {}): Plan {
  const faults = randomOf(`${seed}/faults`);
  const lives = randomOf(`${seed}/lives`);
  const kinds = weighted(isFleet ? [...weights, ...fleetWeights] : weights);
  const isHosts = (name: string): boolean => name.startsWith('host.');
  const killers = failpointNames.filter(canKill);
  const places = {
    all: endless(lives, killers),
    server: endless(
      lives,
      killers.filter((name) => !isHosts(name)),
    ),
    host: endless(lives, killers.filter(isHosts)),
  };
  const troubles = endless(lives, isFleet ? [...troubleMakers, answerLost] : troubleMakers);
  return {
    next: () => ({
      afterMs: Math.round(paceMs * (0.35 + faults.next() * 1.3)),
      fault: faultOf(faults, faults.pick(kinds)),
    }),
    nextLife: (scope) => [killAt(places[scope](), lives), troubles()(lives)].filter(Boolean).join(';'),
    random: (name) => randomOf(`${seed}/${name}`),
  };
}

function canKill(name: FailpointName): boolean {
  return name !== 'clock';
}

function killAt(place: FailpointName, random: Random): string {
  // A host that dies at its first words never comes up; whoever starts it gives up after a few.
  const least = place === 'host.before-reply' ? 4 : 0;
  return `${place}=kill@${least + hitFor(random)}`;
}

/** Few hits mostly: a place late in a life is seldom reached. */
function hitFor(random: Random): number {
  return random.chance(0.6) ? random.between(1, 6) : random.between(7, 40);
}

/** Goes through the list in a new order each time. */
function endless<T>(random: Random, list: readonly T[]): () => T {
  let left: T[] = [];
  return () => {
    if (left.length === 0) left = random.shuffled(list);
    return left.pop() as T;
  };
}

function faultOf(random: Random, kind: FaultKind): Fault {
  switch (kind) {
    case 'freeze-server':
      // Sometimes longer than a lease.
      return { kind, ms: random.chance(0.9) ? random.between(200, 3_000) : random.between(11_000, 14_000) };
    case 'partition-database':
    case 'partition-engine':
      return { kind, ms: random.chance(0.7) ? random.between(500, 4_000) : random.between(11_000, 16_000) };
    case 'freeze-host':
      return { kind, ms: random.between(200, 2_000) };
    case 'lose-replies':
    case 'refuse-clients':
      return { kind, ms: random.between(100, 900) };
    case 'lose-to-engine':
    case 'lose-from-engine':
      return { kind, ms: random.between(100, 3_000) };
    case 'delay-clients':
    case 'delay-engine':
      return { kind, ms: random.between(300, 2_000), byMs: random.between(10, 300) };
    case 'model-weather':
      return { kind, weather: random.pick(weathers), ms: random.between(200, 1_500) };
    default:
      return { kind };
  }
}

type Trouble = (random: Random) => string;

/** What a life may be armed with beside the kill. */
const troubleMakers: readonly Trouble[] = [
  () => '',
  () => '',
  (random) => {
    const from = random.between(3, 40);
    return `store.before-commit=error:ENOSPC@${from}-${from + random.between(0, 12)}`;
  },
  (random) => `store.before-commit=stall:${random.between(100, 1_500)}@${random.between(3, 40)}`,
  (random) => {
    const ms = random.between(2_000, 15_000) * (random.chance(0.5) ? 1 : -1);
    return `clock=jump:${ms}@${random.between(20, 300)}`;
  },
  (random) => `api.before-reply=drop@${random.between(1, 30)}`,
  (random) =>
    `host.before-reply=drop@${random.between(1, 20)};host.before-reply=duplicate@${random.between(21, 40)}`,
  (random) => `host.before-reply=stall:${random.between(100, 1_500)}@${random.between(1, 30)}`,
  (random) => `engine.after-act-began=stall:${random.between(100, 1_500)}@${random.between(1, 10)}`,
  (random) => `api.after-input-append=stall:${random.between(100, 800)}@${random.between(1, 10)}`,
];

/** The answer to a commit is lost on its way; a store within the process has no such way. */
const answerLost: Trouble = (random) => `store.after-commit=error:ECONNRESET@${random.between(3, 40)}`;
