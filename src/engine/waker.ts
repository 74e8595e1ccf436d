/**
 * The waker port: who may say when a session is driven. Safety is the fence's (L3), so a waker's whole contract is to call
 * `runTurn` at least once after a session has something to do; twice, late or for nothing does no harm.
 *
 * The engine brings its own waker, over the store's claims: it takes whatever is due, many at a time, is told of appends,
 * and looks again each second. Another one stands beside it; docs/operations/wakers.md says how.
 */
export interface Woken {
  /**
   * Claims the session where nobody has it, due or not, and drives it until it rests: nothing to do, or waiting for a
   * person, a client or a time, for which the built-in waker comes back. `gone`: it is deleted, unknown, or driven by
   * another process, which goes on. Rejects where it stopped before it could rest; it has been given back, and the next
   * call, or the built-in waker, goes on.
   */
  runTurn(session: string): Promise<'rested' | 'gone'>;
}
