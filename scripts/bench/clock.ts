/**
 * One clock for all processes: CLOCK_MONOTONIC, which Linux gives to each of them from the same start. The wall clock
 * is only for comparing with the times in a log.
 */
export function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

export async function until(
  what: string,
  limitMs: number,
  isSo: () => boolean | Promise<boolean>,
): Promise<void> {
  const endMs = nowMs() + limitMs;
  while (!(await isSo())) {
    if (nowMs() > endMs) throw new Error(`waited ${limitMs} ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
