/**
 * The time limits of one model call. Every limit is about silence, none about total length: an answer that keeps
 * coming may take an hour. Which limit ended a call is a value, so that the error can say it.
 */

export type DeadlineName = 'connect' | 'first_byte' | 'idle' | 'drain';

export type Deadlines = {
  /** Prevents: a wrong address or a dead route holding a session until the kernel gives up after minutes. */
  connectMs: number;
  /** Prevents: a provider that accepted the request and lost it. Long, because prompts queue at busy times. */
  firstByteMs: number;
  /** Prevents: a half-open connection after which nothing comes. Long, because models think in silence. */
  idleMs: number;
};

export const defaultDeadlines: Deadlines = { connectMs: 15_000, firstByteMs: 300_000, idleMs: 600_000 };

/** Prevents: a peer that completes a response and keeps the connection open holding back what we already have. */
const drainMs = 500;

export type Watch = {
  /** Aborts when the caller's signal does or a limit passes. */
  signal: AbortSignal;
  /** Enters a phase: the earlier limit no longer counts, this one starts. */
  enter: (phase: DeadlineName) => void;
  /** A sign of life in the current phase. */
  alive: () => void;
  expired: () => DeadlineName | null;
  /** Ends the watch; `signal` aborts too if `abort` is asked, which closes what is still open. */
  stop: (abort: boolean) => void;
};

export function watchDeadlines(deadlines: Deadlines, caller: AbortSignal): Watch {
  const controller = new AbortController();
  let expired: DeadlineName | null = null;
  let phase: DeadlineName = 'connect';
  let timer: NodeJS.Timeout | undefined;

  function enter(next: DeadlineName): void {
    clearTimeout(timer);
    phase = next;
    timer = setTimeout(
      () => {
        expired = phase;
        controller.abort();
      },
      limitOf(deadlines, next),
    );
  }

  const onAbort = (): void => controller.abort();
  if (caller.aborted) controller.abort();
  else caller.addEventListener('abort', onAbort, { once: true });

  return {
    signal: controller.signal,
    enter,
    // `refresh` reuses the timer: this is called for every chunk.
    alive: () => {
      if (phase !== 'drain') timer?.refresh();
    },
    expired: () => expired,
    stop(abort) {
      clearTimeout(timer);
      caller.removeEventListener('abort', onAbort);
      if (abort) controller.abort();
    },
  };
}

function limitOf(deadlines: Deadlines, phase: DeadlineName): number {
  switch (phase) {
    case 'connect':
      return deadlines.connectMs;
    case 'first_byte':
      return deadlines.firstByteMs;
    case 'idle':
      return deadlines.idleMs;
    case 'drain':
      return drainMs;
  }
}
