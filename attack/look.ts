/** Looks at the machine from outside: what is left on it, and what a person at a terminal is shown. */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { programFile } from '../chaos/processes.ts';
import type { Stage } from './stage.ts';

const patienceMs = 30_000;
const pollMs = 100;
const mostOutputBytes = 64 << 20;

/** What is found once it is gone, or what is still there when patience ends. */
export async function lookAt(look: () => string[]): Promise<string[]> {
  const untilMs = performance.now() + patienceMs;
  for (;;) {
    const found = look();
    if (found.length === 0 || performance.now() > untilMs) return found;
    await sleep(pollMs);
  }
}

export function namesBelow(folder: string): string[] {
  return safely(() => readdirSync(folder)) ?? [];
}

/** Of living processes, except our own, that name `text`. */
export function commandLines(text: string): string[] {
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .map((pid) => safely(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8'))?.replaceAll('\0', ' ') ?? '')
    .filter((line) => new RegExp(`\\b(?:left-|timeout-|killed-)?${text}[0-9a-f]{16}`).test(line));
}

/** Files that hold one of `texts`; with none, every name and content. */
export function filesWith(folder: string, texts: readonly string[]): string[] {
  const found: string[] = [];
  // Node's recursive listing follows links, also those that a hostile session left (S3).
  for (const entry of safely(() => readdirSync(folder, { withFileTypes: true })) ?? []) {
    const file = path.join(folder, entry.name);
    const content = (entry.isFile() ? safely(() => readFileSync(file, 'latin1')) : null) ?? '';
    if (texts.length === 0) found.push(`${entry.name} ${content}`);
    else if (texts.some((text) => content.includes(text))) found.push(file);
    if (entry.isDirectory()) found.push(...filesWith(file, texts));
  }
  return found;
}

/** Null where it went away meanwhile, or is a path too long for any call. */
function safely<T>(look: () => T): T | null {
  try {
    return look();
  } catch {
    return null;
  }
}

/** As bytes for a terminal: what `scriptorium events` and `show` print of that session. */
export async function printedBy(stage: Stage, session: string): Promise<string> {
  let printed = '';
  for (const command of ['events', 'show']) {
    const args = [command, session, '--url', stage.url, '--api-key', stage.apiKey];
    const flags = ['--disable-warning=ExperimentalWarning', programFile('src/cli/main')];
    const env = { ...process.env, NO_COLOR: '1', SCRIPTORIUM_FAILPOINTS: stage.failpoints ?? '' };
    const options = { env, maxBuffer: mostOutputBytes };
    const ran = await promisify(execFile)(process.execPath, [...flags, ...args], options).catch(
      (error: { stdout?: string }) => ({ stdout: error.stdout ?? '' }),
    );
    printed += ran.stdout;
  }
  return printed;
}
