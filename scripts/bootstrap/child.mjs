// Runs a child as if it were this process: same terminal, signals forwarded, same ending.

import { spawn } from 'node:child_process';
import { constants } from 'node:os';

const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2'];
/** What a terminal already sends to the whole foreground group; forwarding it again would look like a second Ctrl-C. */
const SENT_BY_TERMINAL = ['SIGINT', 'SIGQUIT'];

/**
 * Runs the program and resolves with its exit code (128 + signal where a signal ended it).
 * @param {string} program
 * @param {string[]} args
 * @param {import('node:child_process').SpawnOptions} [options]
 * @returns {Promise<number>}
 */
export function runChild(program, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: 'inherit', ...options });
    const stopForwarding = forwardSignals(child);
    child.once('error', (error) => {
      stopForwarding();
      reject(error);
    });
    child.once('exit', (code, signal) => {
      stopForwarding();
      resolve(code ?? 128 + constants.signals[signal]);
    });
  });
}

/** Runs the program, then ends this process the way it ended. */
export async function runToEnd(program, args, options = {}) {
  const code = await runChild(program, args, options);
  process.exitCode = code;
}

function forwardSignals(child) {
  const handlers = FORWARDED.map((signal) => {
    const handler = () => {
      if (process.stdin.isTTY && SENT_BY_TERMINAL.includes(signal)) return;
      child.kill(signal);
    };
    process.on(signal, handler);
    return { signal, handler };
  });
  return () => {
    for (const { signal, handler } of handlers) process.removeListener(signal, handler);
  };
}
