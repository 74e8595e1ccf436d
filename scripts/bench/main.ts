/**
 * `npm run bench`: what Scriptorium costs beside the model, measured against a model peer in a process of its own.
 *
 * Promises: nothing is left out of a figure that a user would wait for; over its target is a result (exit 0), not
 * measured is a failure (exit 1); every process that was started is gone at the end.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, statfsSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { parseArgs } from 'node:util';
import { measureAppends } from './appends.ts';
import { measureCheckpoints } from './checkpoints.ts';
import { nowMs } from './clock.ts';
import { describeCode } from './code-under-test.ts';
import { measureCodex } from './codex.ts';
import type { Figure } from './figure.ts';
import { isOver, tableOf } from './figure.ts';
import { measureColdMessage, measureLongLog, measureMessages } from './message.ts';
import { measureNetwork } from './network.ts';
import { Peer } from './peer-process.ts';
import { endAll, temporaryFolder } from './processes.ts';
import { measureRecovery } from './recovery.ts';
import { measureReference } from './reference.ts';
import { measureSandbox } from './sandbox.ts';
import { Server } from './server-process.ts';
import { measureManySleepers, measureSleepers } from './sleepers.ts';
import { copiedNode, measureIdleMemory, measureStart } from './start.ts';
import { measureRatio, measureSteps } from './steps.ts';
import { measureStore } from './store.ts';
import { measureFrozen, measureTakeover } from './takeover.ts';
import { measureWatchers } from './watchers.ts';
import { measureWaterfall } from './waterfall.ts';

/** A minute or more each; all but the watchers and the checkpoints need a Postgres. */
const longParts = ['appends', 'takeover', 'frozen', 'sleepers', 'watchers', 'checkpoints'];
const partNames = [
  'steps',
  'messages',
  'sandbox',
  'network',
  'start',
  'memory',
  'recovery',
  'store',
  ...longParts,
];

const usage = `Usage: npm run bench -- [options]

  --quick            about a minute: smaller samples, a shorter long session, without ${longParts.join(', ')}
                     unless --only names them
  --only <names>     some of: ${partNames.join(', ')} (comma-separated)
  --codex            also installs @openai/codex from npm into a temporary folder and measures it beside us
  --profile <dir>    writes CPU profiles of the servers of steps and watchers
  --json             the figures as one JSON document on stdout
`;

const plans = {
  full: {
    steps: { steps: 100, longSteps: 1000 },
    messages: 30,
    coldStarts: 5,
    sandbox: { creates: 30, execs: 300 },
    checkpoints: { files: 20_000, fileBytes: 25_000, rounds: 9 },
    network: { creates: 30, burst: 20, requests: 1000 },
    starts: 9,
    memoryRounds: 3,
    sleepers: 100,
    recoveries: 7,
    store: { appends: 1000, windowMs: 2000, windows: 5 },
    appends: { windowMs: 2000, windows: 5, pairs: 1000 },
    takeover: { kills: 30, freezes: 3 },
    manySleepers: { sessions: 10_000, withCommand: 300 },
    watchers: { sessions: 50, perSession: 20, steps: 20 },
    codexSteps: 40,
  },
  quick: {
    steps: { steps: 100, longSteps: 300 },
    messages: 12,
    coldStarts: 2,
    sandbox: { creates: 10, execs: 100 },
    checkpoints: { files: 2_000, fileBytes: 25_000, rounds: 5 },
    network: { creates: 10, burst: 10, requests: 300 },
    starts: 3,
    memoryRounds: 1,
    sleepers: 100,
    recoveries: 5,
    store: { appends: 300, windowMs: 700, windows: 3 },
    appends: { windowMs: 500, windows: 3, pairs: 200 },
    takeover: { kills: 5, freezes: 1 },
    manySleepers: { sessions: 1_000, withCommand: 50 },
    watchers: { sessions: 50, perSession: 20, steps: 5 },
    codexSteps: 15,
  },
};

type Plan = (typeof plans)['full'];
type Part = { name: string; measure(): Promise<Figure[]> };

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    codex: { type: 'boolean', default: false },
    profile: { type: 'string' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

if (values.help) {
  process.stdout.write(usage);
  process.exit(0);
}
const unknown = values.only?.split(',').find((name) => !partNames.includes(name));
if (unknown !== undefined) {
  process.stderr.write(`bench: --only ${unknown}: one of ${partNames.join(', ')}\n`);
  process.exit(64);
}
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void endAll().finally(() => process.exit(130)));

// A bug of the bench must not leave processes behind.
process.once('unhandledRejection', (error) => {
  process.stderr.write(`bench: ${messageOf(error)}\n`);
  void endAll().finally(() => process.exit(1));
});

const failures: string[] = [];
try {
  await bench(values.quick ? plans.quick : plans.full);
} catch (error) {
  failures.push(messageOf(error));
  process.stderr.write(`bench: ${messageOf(error)}\n`);
} finally {
  await endAll();
}
process.exit(failures.length === 0 ? 0 : 1);

async function bench(plan: Plan): Promise<void> {
  const startedMs = nowMs();
  const loadBefore = loadavg();
  const isIsolated = hasBubblewrap();
  const peer = await Peer.start();
  const usual = values.quick ? partNames.filter((name) => !longParts.includes(name)) : partNames;
  const wanted = values.only?.split(',') ?? usual;
  const figures: Figure[] = [];
  for (const { name, measure } of partsOf(plan, peer, isIsolated)) {
    if (!wanted.includes(name) && name !== 'codex') continue;
    if (!values.json) process.stderr.write(`bench: ${name} …\n`);
    try {
      figures.push(...(await measure()));
    } catch (error) {
      failures.push(`${name}: ${messageOf(error)}`);
    }
  }
  report(figures, { loadBefore, isIsolated, seconds: (nowMs() - startedMs) / 1000 });
}

function partsOf(plan: Plan, peer: Peer, isIsolated: boolean): Part[] {
  const settings = { peer, isIsolated };
  const withNode = async () => ({ ...settings, node: await copiedNode() });
  const parts: Part[] = [
    {
      name: 'steps',
      measure: async () => [...(await measureReference()), ...(await onOneServer(plan, settings))],
    },
    {
      name: 'messages',
      measure: async () => {
        const server = (await Server.start({ ...settings, dataDir: await temporaryFolder('talk') })).watch(
          peer,
        );
        const figures = await measureMessages(server, peer, plan.messages);
        await server.close();
        return [...figures, ...(await measureColdMessage(settings, plan.coldStarts))];
      },
    },
    { name: 'sandbox', measure: () => measureSandbox(isIsolated, plan.sandbox) },
    { name: 'network', measure: async () => (isIsolated ? measureNetwork(plan.network) : []) },
    { name: 'checkpoints', measure: async () => (isIsolated ? measureCheckpoints(plan.checkpoints) : []) },
    { name: 'start', measure: () => measureStart(settings, plan.starts) },
    {
      name: 'memory',
      measure: async () => {
        const own = await withNode();
        return [
          ...(await measureIdleMemory(own, plan.memoryRounds)),
          ...(await measureSleepers(own, plan.sleepers)),
        ];
      },
    },
    { name: 'recovery', measure: () => measureRecovery(settings, plan.recoveries) },
    { name: 'store', measure: () => measureStore(plan.store) },
    { name: 'appends', measure: () => measureAppends(peer, isIsolated, plan.appends) },
    { name: 'takeover', measure: () => measureTakeover(settings, plan.takeover) },
    { name: 'frozen', measure: () => measureFrozen(settings, plan.takeover) },
    {
      name: 'watchers',
      measure: () => measureWatchers({ ...settings, flags: profiling() }, plan.watchers),
    },
    {
      name: 'sleepers',
      measure: async () => measureManySleepers(await withNode(), plan.manySleepers),
    },
  ];
  if (values.codex) parts.push({ name: 'codex', measure: () => measureCodex(peer, plan.codexSteps) });
  return parts;
}

function profiling(): string[] {
  return values.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${values.profile}`];
}

/** Steps, the long session, and then a message to it: what a long log costs. */
async function onOneServer(plan: Plan, settings: { peer: Peer; isIsolated: boolean }): Promise<Figure[]> {
  const { peer, isIsolated } = settings;
  const flags = profiling();
  const server = (await Server.start({ ...settings, dataDir: await temporaryFolder('steps'), flags })).watch(
    peer,
  );
  const steps = await measureSteps(server, peer, plan.steps);
  const long = await measureRatio(server, peer, plan.steps);
  const talk = await measureLongLog(server, peer, long.session, plan.steps.longSteps);
  await server.close();
  const parts = await measureWaterfall(peer, isIsolated, plan.steps.steps);
  return [...steps, ...parts, ...long.figures, ...talk];
}

type Circumstances = { loadBefore: number[]; isIsolated: boolean; seconds: number };

function report(figures: readonly Figure[], { loadBefore, isIsolated, seconds }: Circumstances): void {
  const load = { before: loadBefore.map(round), after: loadavg().map(round) };
  const machine = {
    code: describeCode(),
    node: process.version,
    cpus: `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}`,
    kernel: readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim(),
    disk: diskOf(tmpdir()),
    isolation: isIsolated ? 'bubblewrap' : 'none',
    load,
  };
  if (values.json) {
    const shown = figures.map((one) => ({ ...one, name: one.name.trim(), over: isOver(one) }));
    process.stdout.write(`${JSON.stringify({ machine, seconds, figures: shown, failures }, null, 2)}\n`);
    return;
  }
  const busy =
    (load.before[0] ?? 0) > cpus().length / 2 ? '  ← the machine was busy: figures are upper bounds' : '';
  process.stdout.write(`\n${tableOf(figures)}\n\n`);
  process.stdout.write(
    `code ${machine.code} · node ${machine.node} · ${machine.cpus} · Linux ${machine.kernel} · ${machine.disk} · ${machine.isolation}\n`,
  );
  process.stdout.write(
    `load ${load.before.join(' ')} before, ${load.after.join(' ')} after${busy} · ${seconds.toFixed(0)} s · spread is p10–p90, min–max below n = 10\n`,
  );
  for (const failure of failures) process.stderr.write(`bench: not measured: ${failure}\n`);
}

/** Where fsync costs nothing the figures of durability mean nothing. */
function diskOf(folder: string): string {
  const tmpfs = 0x01021994;
  return statfsSync(folder).type === tmpfs ? `${folder} IS A tmpfs: fsync is free` : `${folder} on a disk`;
}

function hasBubblewrap(): boolean {
  try {
    execFileSync('bwrap', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
