/**
 * `scriptorium doctor`: what this machine can isolate, what is configured, and what to do about each lack. Asks the
 * running server, which may be elsewhere and see more or less than we do; without one it looks for itself. With a database
 * URL it asks that database instead, from here.
 */
import path from 'node:path';
import type { JsonObject } from '../protocol/json.ts';
import { defaultDataDir } from './data-dir.ts';
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import type { Terminal } from './terminal/terminal.ts';
import { safeText } from './terminal/text.ts';
import { folderProblem } from './usable-folder.ts';

export type DoctorOptions = ServerOptions & { json?: boolean; databaseUrl?: string };

type Check = { check: string; ok: boolean; found: string; remedy: string | null; required: boolean };

export async function doctor(options: DoctorOptions, terminal: Terminal): Promise<ExitCode> {
  if (options.databaseUrl !== undefined) return doctorOfDatabase(options.databaseUrl, options, terminal);
  const dataDir = path.resolve(options.dataDir ?? defaultDataDir());
  const { report, by } = await reportOf(options, dataDir, terminal);
  const checks = readChecks(report);
  if (by === null) checks.push(dataDirCheck(dataDir));
  const isUsable = checks.every((check) => check.ok || !check.required);
  if (options.json === true) terminal.out(JSON.stringify({ ...report, by, checks, usable: isUsable }));
  else {
    terminal.out(
      by === null ? 'No server runs; this is what this machine has:' : `The server at ${by} says:`,
    );
    print(checks, terminal);
    terminal.out(
      isUsable ? 'Agents can run sealed here.' : 'Agents cannot run sealed here: see what to do above.',
    );
  }
  return isUsable ? exitCodes.done : exitCodes.error;
}

async function doctorOfDatabase(url: string, { json }: DoctorOptions, terminal: Terminal): Promise<ExitCode> {
  const { databaseDoctor } = await import('./up.ts');
  const report = await databaseDoctor(url);
  const checks = readChecks(report);
  const isUsable = checks.every((check) => check.ok || !check.required);
  if (json === true) terminal.out(JSON.stringify({ ...report, checks, usable: isUsable }));
  else {
    terminal.out('Seen from this machine, the database has:');
    print(checks, terminal);
    terminal.out(isUsable ? 'It can carry a fleet.' : 'It cannot carry a fleet: see what to do above.');
  }
  return isUsable ? exitCodes.done : exitCodes.error;
}

async function reportOf(options: DoctorOptions, dataDir: string, terminal: Terminal) {
  const isNamed = options.url !== undefined || (process.env.SCRIPTORIUM_URL ?? '') !== '';
  try {
    const client = await connect({ ...options, dataDir, terminal, patienceMs: 0 });
    return { report: await client.get<JsonObject>('/v1/doctor'), by: client.url };
  } catch (error) {
    if (isNamed || !(error instanceof Refused)) throw error;
    const { doctorHere } = await import('./up.ts');
    return { report: await doctorHere(dataDir), by: null };
  }
}

/** Lacks without which no agent can run sealed. All others cost something, and the report says what. */
const REQUIRED = new Set(['system', 'native programs', 'bubblewrap', 'seccomp', 'sandbox', 'data directory']);

function readChecks(report: JsonObject): Check[] {
  const checks = Array.isArray(report.checks) ? report.checks : [];
  return checks.flatMap((one): Check[] => {
    if (one === null || typeof one !== 'object' || Array.isArray(one)) return [];
    const text = (key: string) => (typeof one[key] === 'string' ? safeText(one[key]).trim() : '');
    const name = text('check');
    return [
      {
        check: name,
        ok: one.ok === true,
        found: text('found'),
        remedy: text('remedy') || null,
        required: one.required === true || REQUIRED.has(name),
      },
    ];
  });
}

function dataDirCheck(dataDir: string): Check {
  const problem = folderProblem(dataDir);
  return {
    check: 'data directory',
    ok: problem === null,
    found: problem === null ? `${dataDir} can be written` : `${dataDir} cannot be used: ${problem}`,
    remedy: problem === null ? null : 'choose another with --data-dir or SCRIPTORIUM_DATA_DIR',
    required: true,
  };
}

function print(checks: Check[], terminal: Terminal): void {
  const width = Math.max(...checks.map((check) => check.check.length), 0);
  for (const check of checks) {
    const mark = check.ok
      ? terminal.paint('green', 'ok ')
      : terminal.paint(check.required ? 'red' : 'yellow', check.required ? 'NO ' : 'no ');
    terminal.out(`  ${mark} ${check.check.padEnd(width)}  ${check.found}`);
    if (!check.ok && check.remedy !== null) terminal.out(`      ${' '.repeat(width)}→ ${check.remedy}`);
  }
}
