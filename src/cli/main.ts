/**
 * The `scriptorium` command: what can be typed, each command in a file of its own that is loaded only when asked for.
 *
 * An expected ending is printed as one line and what to do about it; the exit code says which kind it is
 * (`ending.ts`, docs/cli.md). Stack traces are for bugs, and for `--debug`.
 */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import { environmentCommands } from './environment/commands.ts';
import { processTerminal } from './terminal/terminal.ts';
import { safeText } from './terminal/text.ts';

const terminal = processTerminal();
let exitCode: number = exitCodes.done;

/** Wraps a command: its exit code becomes ours. */
function ends<A extends unknown[]>(work: (...args: A) => Promise<ExitCode>): (...args: A) => Promise<void> {
  return async (...args) => {
    exitCode = await work(...args);
  };
}

function versionOf(): string {
  for (const up of ['../../package.json', '../../../package.json']) {
    try {
      const text = readFileSync(new URL(up, import.meta.url), 'utf8');
      return String((JSON.parse(text) as { version?: unknown }).version);
    } catch {
      // From dist/ the package lies one folder further up.
    }
  }
  return 'unknown';
}

const program = new Command('scriptorium')
  .description('A durable runtime for Codex-like agents that you run yourself')
  .version(versionOf(), '-V, --version')
  .option('--debug', 'print stack traces')
  .showHelpAfterError('(scriptorium --help shows what can be typed)')
  .exitOverride()
  .configureHelp({ showGlobalOptions: false });

/** A command that talks to a server. */
function talking(name: string, description: string, under: Command = program): Command {
  return under
    .command(name)
    .description(description)
    .option('--url <url>', 'server to talk to (SCRIPTORIUM_URL; default: the one on this data directory)')
    .option('--api-key <key>', 'key for it (SCRIPTORIUM_API_KEY)')
    .option('--data-dir <path>', 'where a local server keeps its data (SCRIPTORIUM_DATA_DIR)');
}

const collect = (value: string, before: string[]): string[] => [...before, value];

program
  .command('up')
  .description('start the server')
  .option('--data-dir <path>', 'where everything is kept (SCRIPTORIUM_DATA_DIR)')
  .option('--port <port>', 'port to listen on; 0 takes a free one (default: 7717)')
  .option('--host <address>', 'address to listen on (default: 127.0.0.1)')
  .option('--json', 'print one line of JSON with url and api_key')
  .option(
    '--bind </from:/to[:ro]>',
    'show a folder or file of this machine in every sandbox; repeatable',
    collect,
    [],
  )
  .option(
    '--resolve <name=address[:port]>',
    'where the gateway finds a host, private or not; repeatable',
    collect,
    [],
  )
  .option('--private-network <cidr>', 'private addresses that the gateway may reach; repeatable', collect, [])
  .option('--trust-ca <file>', 'authorities (PEM) that the gateway trusts besides the system’s')
  .option('--limits <file>', 'JSON file with defaults and maxima of what a session may use')
  .option('--prices <file>', 'JSON file with prices of models')
  .option('--registry <manager=url>', 'where builds ask for packages; repeatable', collect, [])
  .option('--allow-unisolated', 'run agents WITHOUT a sandbox; every session says so loudly')
  .action(ends(async (options) => (await import('./up.ts')).up(options, terminal)));

program
  .command('serve')
  .description('start one process of a fleet on Postgres')
  .requiredOption('--role <roles>', 'api, engine, or api,engine')
  .option('--database-url <url>', 'the Postgres of the fleet (SCRIPTORIUM_DATABASE_URL)')
  .requiredOption('--master-key-file <file>', '32 bytes that seal what is stored; the same for all')
  .requiredOption(
    '--cluster-secret-file <file>',
    'secret by which processes know each other; the same for all',
  )
  .requiredOption('--data-dir <path>', 'folder for files and bundles that all processes of the fleet share')
  .option('--listen <address>', 'where the api listens', '127.0.0.1:7717')
  .option('--internal-listen <address>', 'where the engine listens for hosts and apis', '127.0.0.1:7718')
  .option('--internal-address <address>', 'how they reach it, where that is another address')
  .option('--host-lost-after <seconds>', 'a host that is away for so long is given up', '900')
  .option('--drain <seconds>', 'a model that is speaking may go on for so long after SIGTERM', '10')
  .option('--limits <file>', 'JSON file with defaults and maxima of what a session may use')
  .option('--prices <file>', 'JSON file with prices of models')
  .option('--registry <manager=url>', 'where builds ask for packages; repeatable', collect, [])
  .option('--json', 'print one line of JSON with url, internal_address and api_key')
  .action(ends(async (options) => (await import('./serve.ts')).serve(options, terminal)));

program
  .command('host')
  .description('lend this machine\u2019s sandboxes to a fleet')
  .requiredOption('--join <url>', 'address of an api')
  .requiredOption('--token-file <file>', 'what scriptorium host-token printed')
  .requiredOption('--state-dir <path>', 'where the disks of sessions are')
  .option(
    '--bind </from:/to[:ro]>',
    'show a folder of this machine in every sandbox; repeatable',
    collect,
    [],
  )
  .option('--gateway-dir <path>', 'where the gateway of this machine takes its sandboxes in')
  .option('--disk-driver <driver>', 'how disks of sessions are kept: auto, btrfs, ext4, reflink or tar')
  .option('--allow-unisolated', 'run agents WITHOUT a sandbox where a session asks for none')
  .option('--json', 'print one line of JSON with host_id')
  .action(ends(async (options) => (await import('./host.ts')).host(options, terminal)));

program
  .command('gateway')
  .description('be the way out of this machine\u2019s sandboxes, for a fleet')
  .requiredOption('--join <url>', 'address of an api')
  .requiredOption('--token-file <file>', 'what scriptorium host-token --gateway printed')
  .requiredOption('--state-dir <path>', 'a folder of its own')
  .option('--capture-dir <path>', 'where it takes sandboxes in; the same for the host (--gateway-dir)')
  .option('--resolve <name=address[:port]>', 'where it finds a host, private or not; repeatable', collect, [])
  .option('--private-network <cidr>', 'private addresses that it may reach; repeatable', collect, [])
  .option('--trust-ca <file>', 'authorities (PEM) that it trusts besides the system\u2019s')
  .option('--json', 'print one line of JSON with name and capture_dir')
  .action(ends(async (options) => (await import('./gateway.ts')).gateway(options, terminal)));

const hostToken = program
  .command('host-token')
  .description('mint the token with which a host joins; list and revoke them')
  .option('--cluster-secret-file <file>', 'the secret of the fleet')
  .option('--name <name>', 'of the host: a-z, 0-9 and hyphens (default: a random one)')
  .option('--gateway', 'for the gateway beside the host of that name instead')
  .action(ends(async (options) => (await import('./host-token.ts')).hostToken(options, terminal)));

talking('list', 'list the tokens that are used and those that are revoked', hostToken)
  .option('--json', 'one JSON object per line')
  .action(ends(async (options) => (await import('./host-token.ts')).listHostTokens(options, terminal)));

talking('revoke <name>', 'let nobody in with this token, and cut off who is', hostToken)
  .option('--reason <text>', 'for the record')
  .action(
    ends(async (name, options) => (await import('./host-token.ts')).revokeHostToken(name, options, terminal)),
  );

talking('host-lost <host>', 'give a machine up that will not come back; its sessions go on elsewhere')
  .option('--reason <text>', 'for the record')
  .action(ends(async (id, options) => (await import('./host-lost.ts')).hostLost(id, options, terminal)));

talking('run <task>', 'give an agent a task, watch it, and see the diff')
  .option('--repo <folder>', 'repository to work on, taken as it is, uncommitted work included')
  .option('--model <id>', 'model (SCRIPTORIUM_MODEL)')
  .option('--effort <effort>', 'low, medium, high, xhigh or max')
  .option('--ask', 'ask before every command and every change of a file')
  .option('--allow-host <host>', 'host that the sandbox may reach (80, 443); repeatable', collect, [])
  .option('--allow-packages', 'the sandbox may reach the registries of package managers')
  .option('--ask-hosts', 'any other host is asked of you, while the command waits')
  .option('--environment <id>', 'an environment instead of these')
  .option('--vault <id>', 'secrets that the agent may use and never sees; repeatable', collect, [])
  .option('--detach', 'do not wait')
  .option('--json', 'one JSON event per line')
  .action(ends(async (task, options) => (await import('./run.ts')).run(task, options, terminal)));

talking('apply <session>', 'bring what a session made into your repository, as a branch')
  .option('--repo <folder>', 'your repository (default: .)')
  .option('--branch <name>', 'name of the branch (default: scriptorium/<short id>)')
  .option('--json', 'print the result as JSON')
  .action(ends(async (id, options) => (await import('./apply.ts')).apply(id, options, terminal)));

talking('ls', 'list sessions, newest first')
  .option('--all', 'archived ones too')
  .option('--limit <n>', 'at most so many (default: 20)')
  .option('--json', 'one JSON object per line')
  .action(ends(async (options) => (await import('./ls.ts')).ls(options, terminal)));

talking('show <session>', 'show a session: status, cost, what it waits for, its last words, its diff')
  .option('--no-diff', 'leave the diff out')
  .option('--json', 'print the session as JSON')
  .action(ends(async (id, options) => (await import('./show.ts')).show(id, options, terminal)));

talking('attach <session>', 'watch a session until it rests')
  .option('--json', 'one JSON event per line')
  .action(ends(async (id, options) => (await import('./attach.ts')).attach(id, options, terminal)));

talking('send <session> <text>', 'say something to a session')
  .option('--steer', 'into the running turn, at its next step, instead of after it')
  .option('--json', 'print the event as JSON')
  .action(ends(async (id, text, options) => (await import('./send.ts')).send(id, text, options, terminal)));

talking('interrupt <session>', 'stop what the agent does now').action(
  ends(async (id, options) => (await import('./interrupt.ts')).interrupt(id, options, terminal)),
);

talking(
  'network <session> [host]',
  'what a session reached and was refused; with a host, let it through or not',
)
  .option('--allow', 'let the session reach this host from now on')
  .option('--deny', 'do not')
  .option('--port <port>', 'another port than 80 and 443')
  .option('--json', 'one JSON event per line')
  .action(
    ends(async (id, host, options) => (await import('./network.ts')).network(id, host, options, terminal)),
  );

talking('events <session>', 'print the log of a session')
  .option('--follow', 'go on as it grows')
  .option('--operator', 'with what the driver recorded')
  .option('--json', 'one JSON event per line')
  .action(ends(async (id, options) => (await import('./events.ts')).events(id, options, terminal)));

talking(
  'confirm <session> [tool_use_id]',
  'answer a call that waits for permission; without an answer, show it',
)
  .option('--allow', 'let it run')
  .option('--deny [why]', 'do not; the agent is told why')
  .option('--all', 'answer all that wait')
  .action(
    ends(async (id, call, options) => (await import('./confirm.ts')).confirm(id, call, options, terminal)),
  );

talking('checkpoint <session>', 'keep the workspace of a session as it is at the end of its turn')
  .option('--json', 'print the checkpoint as JSON')
  .action(ends(async (id, options) => (await import('./checkpoint.ts')).checkpoint(id, options, terminal)));

talking('checkpoints <session>', 'list the checkpoints of a session')
  .option('--json', 'one JSON object per line')
  .action(ends(async (id, options) => (await import('./checkpoints.ts')).checkpoints(id, options, terminal)));

talking('fork <session>', 'make a new session that was this one up to a checkpoint')
  .option('--at <place>', 'checkpoint, or event that has one (default: the newest checkpoint)')
  .option('-m, --message <text>', 'what to say to it')
  .option('--title <title>', 'title of the new session')
  .option('--json', 'print the session as JSON')
  .action(ends(async (id, options) => (await import('./fork.ts')).fork(id, options, terminal)));

talking(
  'rollback <session> <checkpoint>',
  'take a session back to a checkpoint: files and conversation',
).action(
  ends(async (id, at, options) => (await import('./rollback.ts')).rollback(id, at, options, terminal)),
);

talking('archive <session>', 'end a session for good and keep its history').action(
  ends(async (id, options) => (await import('./archive.ts')).archive(id, options, terminal)),
);

talking('rm <session>', 'delete a session with its sandbox and history').action(
  ends(async (id, options) => (await import('./rm.ts')).remove(id, options, terminal)),
);

const vault = program.command('vault').description('vaults, where secrets of sessions are kept');

talking('create <name>', 'make a vault', vault)
  .option('--json', 'print the vault as JSON')
  .action(
    ends(async (name, options) => (await import('./vault-create.ts')).vaultCreate(name, options, terminal)),
  );

talking('ls', 'list vaults and the names of what is in them', vault)
  .option('--json', 'one JSON object per line')
  .action(ends(async (options) => (await import('./vault-ls.ts')).vaultLs(options, terminal)));

talking('rotate', 'seal every secret’s key under a newer key', vault)
  .option('--json', 'print the result as JSON')
  .action(ends(async (options) => (await import('./vault-rotate.ts')).vaultRotate(options, terminal)));

environmentCommands(program, { talking, ends, terminal });

const secret = program.command('secret').description('secrets in a vault');

talking('set <name>', 'store a secret; its value is read from stdin or a file', secret)
  .requiredOption('--vault <vault>', 'id or name of the vault')
  .option(
    '--host <host>',
    'may be sent to this host; *.example.com is every one below it; repeatable',
    collect,
    [],
  )
  .option('--environment-hosts', 'may be sent to whatever hosts the environment of a session names')
  .option('--file <file>', 'read the value from this file instead of stdin')
  .action(
    ends(async (name, options) => (await import('./secret-set.ts')).secretSet(name, options, terminal)),
  );

program
  .command('chaos')
  .description('attack servers of its own by a seeded plan, and say whether every promise held')
  .option('--seed <n>', 'the plan; the same seed is the same plan')
  .option('--seconds <n>', 'how long to attack (default: 60)')
  .option('--steps <n>', 'end the attack after so many tool calls')
  .option('--sessions <n>', 'sessions at work at once (default: 8)')
  .option('--pace <ms>', 'from one fault to the next, on average (default: 700)')
  .option('--store <engine>', 'what keeps the logs (default: sqlite)')
  .option('--json', 'print the result as one line of JSON')
  .option('--keep', 'keep the folder of the run')
  .action(ends(async (options) => (await import('./chaos.ts')).chaos(options)));

program
  .command('attack')
  .description('run hostile scripts in servers of its own, and say which were refused')
  .option('--isolation <backend>', 'what isolates the sandboxes: bubblewrap (default) or gvisor')
  .option('--only <ids>', 'rows, or beginnings of their ids, with commas between')
  .option('--as-user', 'as root: run everything as an ordinary user')
  .option('--list', 'print the rows and attack nothing')
  .option('--json', 'print the result as one line of JSON')
  .option('--keep', 'keep the folder of the run')
  .action(ends(async (options) => (await import('./attack.ts')).attack(options)));

talking('doctor', 'say what this machine, or a database, lacks and what to do about it')
  .option('--database-url <url>', 'say instead what the Postgres of a fleet can keep')
  .option('--json', 'print the report as JSON')
  .action(ends(async (options) => (await import('./doctor.ts')).doctor(options, terminal)));

talking('fsck', 'check every log and all that is derived from it against the promises')
  .option('--json', 'print the report as JSON')
  .action(ends(async (options) => (await import('./fsck.ts')).fsck(options, terminal)));

talking('replay <session>', 'derive every model request of a session again and compare it with the one sent')
  .option('--json', 'print the report as JSON')
  .action(ends(async (id, options) => (await import('./replay.ts')).replay(id, options, terminal)));

function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.done : exitCodes.usage;
  const isDebug = program.opts().debug === true;
  if (error instanceof Refused || (error as Error | null)?.name === 'GitMissing') {
    terminal.err(`${terminal.paint('red', 'error:')} ${safeText((error as Error).message)}`);
    const hint = error instanceof Refused ? error.hint : null;
    if (hint !== null) terminal.err(`  ${safeText(hint)}`);
    if (isDebug) terminal.err(String((error as Error).stack));
    return error instanceof Refused ? error.exitCode : exitCodes.error;
  }
  const message = error instanceof Error ? error.message : String(error);
  terminal.err(`${terminal.paint('red', 'error:')} ${safeText(message)}`);
  terminal.err(
    isDebug && error instanceof Error ? String(error.stack) : '  this should not happen; --debug shows where',
  );
  return exitCodes.error;
}

/** A signal that no command listens to ends us like any program, but through `exit`, where temporary folders go. */
for (const [signal, code] of [
  ['SIGINT', exitCodes.interrupted],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const)
  process.on(signal, () => {
    if (process.listenerCount(signal) === 1) process.exit(code);
  });

try {
  await program.parseAsync();
} catch (error) {
  exitCode = report(error);
}
// Connections kept for reuse would hold the process for seconds; what was written has to get out first.
await new Promise<void>((resolve) => process.stdout.write('', () => resolve()));
process.exit(exitCode);
