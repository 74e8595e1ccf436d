/** `scriptorium environment …`: what can be typed. Each command is a file of its own, loaded when it is asked for. */
import type { Command } from 'commander';
import type { ExitCode } from '../ending.ts';
import type { Terminal } from '../terminal/terminal.ts';

type House = {
  /** Adds a command that talks to a server. */
  talking(name: string, description: string, under: Command): Command;
  /** Wraps a command: its exit code becomes the program's. */
  ends<A extends unknown[]>(work: (...args: A) => Promise<ExitCode>): (...args: A) => Promise<void>;
  terminal: Terminal;
};

export function environmentCommands(program: Command, { talking, ends, terminal }: House): void {
  const environment = program.command('environment').description('what sessions have beside the base system');

  talking('ls', 'list environments, newest first', environment)
    .option('--json', 'one JSON object per line')
    .action(ends(async (options) => (await import('./ls.ts')).environmentLs(options, terminal)));

  talking('create <name>', 'make an environment', environment)
    .option('--devcontainer <file>', 'from what of a devcontainer.json can be honoured; the rest is refused')
    .option('--config <file>', 'from a config as the API takes it, in JSON')
    .option('--json', 'print the environment as JSON')
    .action(
      ends(async (name, options) => (await import('./create.ts')).environmentCreate(name, options, terminal)),
    );

  talking('show <environment>', 'show an environment and what was really installed', environment)
    .option('--json', 'print it as JSON')
    .action(ends(async (id, options) => (await import('./show.ts')).environmentShow(id, options, terminal)));

  talking('build <environment>', 'build it ahead of its sessions', environment)
    .option('--detach', 'do not wait')
    .option('--json', 'print the result as JSON')
    .action(
      ends(async (id, options) => (await import('./build.ts')).environmentBuild(id, options, terminal)),
    );

  talking('history <environment>', 'list its versions', environment)
    .option('--json', 'one JSON object per line')
    .action(
      ends(async (id, options) => (await import('./history.ts')).environmentHistory(id, options, terminal)),
    );

  talking(
    'rollback <environment> <version>',
    'make a new version that is what an earlier one was',
    environment,
  )
    .option('--json', 'print the environment as JSON')
    .action(
      ends(async (id, version, options) =>
        (await import('./rollback.ts')).environmentRollback(id, version, options, terminal),
      ),
    );

  talking('clean', 'remove built layers that no session refers to', environment)
    .option('--older-than <seconds>', 'leave younger ones', '86400')
    .option('--json', 'print the result as JSON')
    .action(ends(async (options) => (await import('./clean.ts')).environmentClean(options, terminal)));
}
