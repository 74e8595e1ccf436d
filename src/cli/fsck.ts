/**
 * `scriptorium fsck`: whether the logs and all that is derived from them are as promised. Each finding names its stream,
 * its event and the promise (docs/design/promises.md). Exit code 0 where there is none, 1 otherwise.
 */
import type { Finding } from './checks.ts';
import { openChecks } from './checks.ts';
import type { ExitCode } from './ending.ts';
import { exitCodes } from './ending.ts';
import type { ServerOptions } from './server/connect.ts';
import type { Terminal } from './terminal/terminal.ts';
import { safeText } from './terminal/text.ts';

export type FsckOptions = ServerOptions & { json?: boolean };

export async function fsck(options: FsckOptions, terminal: Terminal): Promise<ExitCode> {
  const checks = await openChecks(options, terminal);
  try {
    const total = { streams: 0, events: 0, omitted: 0 };
    const findings: Finding[] = [];
    for await (const part of checks.fsck()) {
      total.streams += part.streams;
      total.events += part.events;
      total.omitted += part.omitted;
      for (const { stream, seq, promise, message } of part.findings) {
        findings.push({ stream, seq, promise, message });
        if (options.json !== true) terminal.out(lineOf({ stream, seq, promise, message }, terminal));
      }
    }
    const holds = findings.length === 0;
    if (options.json === true) terminal.out(JSON.stringify({ holds, by: checks.by, ...total, findings }));
    else terminal.out(verdict(findings.length + total.omitted, total, terminal));
    return holds ? exitCodes.done : exitCodes.error;
  } finally {
    await checks.close();
  }
}

function lineOf({ stream, seq, promise, message }: Finding, terminal: Terminal): string {
  const place = seq === null ? stream : `${stream} seq ${seq}`;
  return `${terminal.paint('red', promise)} ${safeText(place)}: ${safeText(message)}`;
}

function verdict(count: number, read: { streams: number; events: number }, terminal: Terminal): string {
  const what = `${read.events} events in ${read.streams} ${read.streams === 1 ? 'log' : 'logs'}`;
  if (count === 0) return `${terminal.paint('green', 'ok')} all promises hold: ${what}`;
  const findings = count === 1 ? '1 finding' : `${count} findings`;
  return terminal.paint('red', `${findings} in ${what}`);
}
