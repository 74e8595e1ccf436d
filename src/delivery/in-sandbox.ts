/**
 * Runs one of our shell scripts inside the sandbox, to its end, and gives back what it printed.
 *
 * Promises kept here
 * - S3: only the sandbox's own sh and git touch the workspace; what they print is bytes of a stranger, with a cap.
 * - Nothing of a session is ever written into a script: names and ids are arguments.
 * - L6: the call id is used once; where the journal says the process was lost, the next attempt has an id of its own,
 *   which is safe because every script here starts over by itself.
 */
import type { CallRef, Executor, ProcessRead, Refusal } from '../sandbox/executor.ts';
import { isRefusal } from '../sandbox/executor.ts';

export type ScriptRun = {
  script: string;
  args: string[];
  cwd: string;
  timeoutMs: number;
  maxOutputBytes: number;
  signal?: AbortSignal;
};

export type ScriptOutcome = { ok: true; stdout: Buffer; isWhole: boolean } | { ok: false; message: string };

const MAX_ATTEMPTS = 3;
const READ_WAIT_MS = 10_000;
const STDERR_SHOWN_CHARS = 2_000;

export async function runScript(executor: Executor, ref: CallRef, run: ScriptRun): Promise<ScriptOutcome> {
  for (let attempt = 1; ; attempt++) {
    const callId = attempt === 1 ? ref.callId : `${ref.callId}.${attempt}`;
    const outcome = await runOnce(executor, { ...ref, callId }, run);
    if (outcome !== 'lost') return outcome;
    if (attempt === MAX_ATTEMPTS) return { ok: false, message: 'its sandbox ended three times while it ran' };
  }
}

async function runOnce(executor: Executor, ref: CallRef, run: ScriptRun): Promise<ScriptOutcome | 'lost'> {
  const collected = collector();
  let read: ProcessRead | Refusal = await executor.startProcess({
    ...ref,
    argv: ['/bin/sh', '-c', `${prelude}\n${run.script}`, 'sh', ...run.args],
    cwd: run.cwd,
    timeoutMs: run.timeoutMs,
    maxOutputBytes: run.maxOutputBytes,
    mergeStderr: false,
    isOurs: true,
    waitMs: READ_WAIT_MS,
  });
  while (!isRefusal(read)) {
    collected.add(read);
    if (read.process.state === 'lost') return 'lost';
    if (read.process.state === 'exited' && read.chunks.length === 0) return collected.outcome(read);
    if (run.signal?.aborted) {
      await executor.terminateProcess(ref);
      return { ok: false, message: 'interrupted' };
    }
    const afterSeq: number = read.nextSeq;
    read = await executor.readProcess({ ...ref, afterSeq, maxBytes: 1024 * 1024, waitMs: READ_WAIT_MS });
  }
  return { ok: false, message: read.message };
}

function collector() {
  const stdout: Uint8Array[] = [];
  let stderr = '';
  return {
    add(read: ProcessRead): void {
      for (const chunk of read.chunks) {
        if (chunk.stream === 'stdout') stdout.push(chunk.data);
        if (chunk.stream === 'stderr' && stderr.length < STDERR_SHOWN_CHARS)
          stderr += Buffer.from(chunk.data).toString('utf8');
      }
    },
    outcome(read: ProcessRead): ScriptOutcome {
      const { process } = read;
      if (process.state !== 'exited') return { ok: false, message: 'it did not end' };
      if (process.exitCode === 0)
        return { ok: true, stdout: Buffer.concat(stdout), isWhole: read.droppedBytes === 0 };
      const why = stderr.trim().slice(0, STDERR_SHOWN_CHARS);
      if (process.endedBy === 'timeout') return { ok: false, message: `it took too long. ${why}`.trim() };
      if (process.endedBy !== null) return { ok: false, message: `it was ended (${process.endedBy})` };
      return { ok: false, message: why || `it ended with exit code ${process.exitCode ?? process.signal}` };
    },
  };
}

/**
 * What every script starts with: git without anybody's configuration, hooks or environment, and with the C locale.
 * `git_dir` of a workspace may be anything, since the agent could write it; scripts only read objects and HEAD of it.
 */
const prelude = `
set -eu
umask 022
for name in $(env | sed -n 's/^\\(GIT_[A-Z_0-9]*\\)=.*/\\1/p'); do unset "$name"; done
export LC_ALL=C GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_OPTIONAL_LOCKS=0 GIT_NO_REPLACE_OBJECTS=1 GIT_TERMINAL_PROMPT=0
command -v git >/dev/null 2>&1 || { echo 'git is not installed in the sandbox' >&2; exit 1; }
git() {
  command git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.splitIndex=false -c core.untrackedCache=false \\
    -c core.excludesFile=/dev/null -c gc.auto=0 -c maintenance.auto=false -c advice.addEmbeddedRepo=false \\
    -c safe.directory='*' "$@"
}
`;
