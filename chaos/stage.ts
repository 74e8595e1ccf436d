/**
 * What stands around the processes under attack: the witness with its pipe, the model peer with its weather, and the
 * two lying wires. Nothing of it is ever attacked itself.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { witnessPipe } from './model-script.ts';
import type { ModelWeather } from './plan.ts';
import type { Started } from './processes.ts';
import { end, programFile, start } from './processes.ts';
import type { Wire } from './wire.ts';
import { startWire } from './wire.ts';

export type Stage = {
  /** FROM:TO for `--bind`. */
  bind: string;
  modelUrl: string;
  clientWire: Wire;
  modelWire: Wire;
  changeWeather(weather: ModelWeather, ms: number): void;
  /** Nonces, each time one took effect. */
  effects(): string[];
  close(): Promise<void>;
};

export async function setStage(folder: string): Promise<Stage> {
  const witnessFolder = path.join(folder, 'witness');
  mkdirSync(witnessFolder);
  // A session's uid is nobody we know; what it can do with the pipe is to write into it.
  chmodSync(witnessFolder, 0o755);
  const pipe = path.join(witnessFolder, path.basename(witnessPipe));
  execFileSync('mkfifo', ['-m', '666', pipe]);
  chmodSync(pipe, 0o666);
  const record = path.join(folder, 'effects.jsonl');
  const control = path.join(folder, 'weather.json');
  const clientWire = await startWire();
  const modelWire = await startWire();
  const witness = await start([programFile('chaos/witness'), pipe, record], {});
  const model = await startModel(control);
  const { hostname, port } = new URL(String(model.line.url));
  modelWire.target = { host: hostname, port: Number(port) };
  return {
    bind: `${witnessFolder}:${path.posix.dirname(witnessPipe)}`,
    modelUrl: `http://127.0.0.1:${modelWire.port}/v1`,
    clientWire,
    modelWire,
    changeWeather: (weather, ms) =>
      writeFileSync(control, JSON.stringify({ weather, untilMs: Date.now() + ms })),
    effects: () => effectsIn(record),
    async close() {
      await Promise.all([clientWire.close(), modelWire.close()]);
      await Promise.all([end(witness.child, 2_000), end(model.child, 2_000)]);
    },
  };
}

function startModel(control: string): Promise<Started> {
  const args = ['--script', programFile('chaos/model-script'), '--arg', `control=${control}`];
  return start([programFile('rehearsal/main'), ...args, '--keep-bodies', '1', '--exit-with-parent'], {});
}

function effectsIn(record: string): string[] {
  return readFileSync(record, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => (JSON.parse(line) as { nonce: string }).nonce);
}
