/**
 * Where a command writes. Plain where nobody looks (a pipe, a file, NO_COLOR, TERM=dumb): no colour, no spinner.
 *
 * What is written here is taken as it is; whoever has text of an agent or a server sends it through `safeText` first.
 */
export type Terminal = {
  /** Results go to stdout, progress and errors to stderr. */
  out(line: string): void;
  err(line: string): void;
  /** Replaces the last line of stderr; '' removes it. Nothing where the terminal is plain. */
  status(line: string): void;
  /** From now on nobody need read what is written: for a server, whose starter may have gone. */
  goOnUnread(): void;
  isPlain: boolean;
  columns: number;
  paint(style: Style, text: string): string;
};

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

const codes: Record<Style, number> = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 };

export function processTerminal(): Terminal {
  const isDumb = process.env.TERM === 'dumb' || (process.env.NO_COLOR ?? '') !== '';
  const isPlain = isDumb || !process.stderr.isTTY || !process.stdout.isTTY;
  let hasStatus = false;
  let goesOnUnread = false;
  const clear = (): void => {
    if (hasStatus) process.stderr.write('\r\x1b[K');
    hasStatus = false;
  };
  // A reader that went away (`| head`) is no reason to crash.
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error;
      if (!goesOnUnread) process.exit(0);
    });
  return {
    goOnUnread() {
      goesOnUnread = true;
    },
    isPlain,
    get columns() {
      return process.stderr.columns || 100;
    },
    out(line) {
      clear();
      process.stdout.write(`${line}\n`);
    },
    err(line) {
      clear();
      process.stderr.write(`${line}\n`);
    },
    status(line) {
      if (isPlain) return;
      clear();
      if (line === '') return;
      process.stderr.write(line);
      hasStatus = true;
    },
    paint: (style, text) => (isPlain ? text : `\x1b[${codes[style]}m${text}\x1b[0m`),
  };
}
