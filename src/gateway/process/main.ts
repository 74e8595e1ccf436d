/**
 * The process of a machine's own gateway: `node main.ts --state-dir DIR --capture-dir DIR --launch FILE --netprep FILE
 * --undumpable FILE [--uid N] [--pin NAME=ADDRESS[:PORT]]… [--private-network CIDR]… [--authorities FILE]
 * [--owner-grace-ms N]`. Started detached by adopt.ts; survives whoever started it.
 *
 * Exit codes: 0 its owners are gone or it was asked to end; 64 wrong arguments; 75 another gateway serves the folder.
 */
import { parseArgs } from 'node:util';
import { runGateway } from './run.ts';

const exitUsage = 64;
const exitTaken = 75;
const defaultGraceMs = '120000';

function fail(message: string, code: number): never {
  process.stderr.write(`gateway: ${message}\n`);
  process.exit(code);
}

function argumentsOf(argv: string[]) {
  const one = { type: 'string' } as const;
  const many = { type: 'string', multiple: true, default: [] as string[] } as const;
  const options = {
    ...{ 'state-dir': one, 'capture-dir': one, launch: one, netprep: one, undumpable: one, uid: one },
    ...{ pin: many, 'private-network': many, authorities: one },
    'owner-grace-ms': { type: 'string', default: defaultGraceMs } as const,
  };
  const { values } = parseArgs({ args: argv, options, strict: true });
  const { 'state-dir': stateDir, 'capture-dir': captureDir, launch, netprep, undumpable } = values;
  if (!stateDir || !captureDir || !launch || !netprep || !undumpable)
    fail('an argument is missing', exitUsage);
  const uid = values.uid === undefined ? null : Number(values.uid);
  return { ...values, stateDir, captureDir, programs: { launch, netprep, undumpable }, uid };
}

async function main(): Promise<void> {
  const { stateDir, captureDir, programs, uid, authorities, ...values } = argumentsOf(process.argv.slice(2));
  const running = await runGateway({
    ...{ stateDir, captureDir, programs, uid, pins: values.pin, privateNetworks: values['private-network'] },
    ...(authorities === undefined ? {} : { authoritiesFile: authorities }),
    askedBy: { kind: 'owners', graceMs: Number(values['owner-grace-ms']) },
  });
  if ('taken' in running) fail(running.taken, exitTaken);
  process.on('SIGTERM', running.end);
  process.on('SIGINT', running.end);
  process.on('SIGHUP', () => {});
  await running.ended;
  process.exit(0);
}

await main().catch((error: Error) => fail(error.message, 1));
