/**
 * Sessions woken by Restate: a virtual object for each, whose one exclusive handler drives it until it rests. Restate brings what
 * the built-in waker looks for in the store: it asks again where a driver died, and comes back for timers. What makes a session
 * safe is its log (L3), so nothing of a turn is put in Restate's journal, and its exactly-once is not needed.
 */
import * as restate from '@restatedev/restate-sdk';
import type { Woken } from '../../src/engine/waker.ts';
import type { Store, Tenant } from '../../src/store/store.ts';

export type WakerOptions = { engine: Woken; store: Store; tenant: Tenant; ingressUrl: string };

/** Says that a session has something to do, now or in `delayMs`. Rejects where Restate did not take it: say it again. */
export async function wake(ingressUrl: string, session: string, delayMs = 0): Promise<void> {
  const response = await fetch(`${ingressUrl}/session/${session}/turn/send?delay=${delayMs}ms`, {
    method: 'POST',
  });
  await response.body?.cancel();
  if (!response.ok) throw new Error(`Restate did not take the wake-up: ${response.status}`);
}

/** One attempt. What it throws is asked again by Restate, with back-off. */
export async function turn(
  { engine, store, tenant, ingressUrl }: WakerOptions,
  session: string,
): Promise<void> {
  await engine.runTurn(session);
  const row = await store.stream(tenant, session);
  if (row === null || row.erased) return;
  // Perhaps by one that has died: whoever comes after its name is freed goes on.
  if (row.owner !== null) throw new Error(`session ${session} is driven elsewhere`);
  if (row.wakeAt !== null) await wake(ingressUrl, session, Math.max(0, row.wakeAt - Date.now()));
}

/** The service to be registered with Restate. */
export function sessionWaker(options: WakerOptions) {
  return restate.object({
    name: 'session',
    handlers: {
      turn: restate.handlers.object.exclusive(
        {
          // A turn may last for hours, in which nothing is heard of it. Asked a second time, an engine says when the first ends.
          inactivityTimeout: { hours: 1 },
          retryPolicy: { initialInterval: 200, exponentiationFactor: 2, maxInterval: 10_000 },
        },
        // Not within ctx.run: the log has what came of it.
        (context: restate.ObjectContext): Promise<void> => turn(options, context.key),
      ),
    },
  });
}
