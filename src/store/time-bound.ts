/**
 * A bound on a stored time, in the stored form (UTC, milliseconds), so that comparing texts compares times; `open` where
 * there is no bound. A text that is no time is the caller's bug: doors validate.
 */
export function timeBound(bound: string | undefined, open: '' | '~'): string {
  return bound === undefined ? open : new Date(bound).toISOString();
}
