/** `scriptorium confirm`: answers a call that waits for permission, from wherever one is. */

import type { JsonObject } from '../protocol/json.ts';
import type { ExitCode } from './ending.ts';
import { exitCodes, Refused } from './ending.ts';
import type { ServerOptions } from './server/connect.ts';
import { connect } from './server/connect.ts';
import { getSession, resolveSession } from './server/sessions.ts';
import { pendingCalls } from './show.ts';
import { shownInput } from './terminal/confirm.ts';
import type { Terminal } from './terminal/terminal.ts';

export type ConfirmOptions = ServerOptions & { allow?: boolean; deny?: boolean | string; all?: boolean };

export async function confirm(
  typed: string,
  toolUse: string | undefined,
  options: ConfirmOptions,
  terminal: Terminal,
): Promise<ExitCode> {
  const isAllow = options.allow === true;
  const isDeny = options.deny !== undefined && options.deny !== false;
  if (isAllow && isDeny) throw new Refused('say --allow or --deny, not both', { exitCode: exitCodes.usage });
  const client = await connect({ ...options, terminal });
  const id = await resolveSession(client, typed);
  const all = (await pendingCalls(client, await getSession(client, id))).filter(
    ({ event }) => event?.type !== 'agent.custom_tool_use',
  );
  const waiting = toolUse === undefined ? all : all.filter((one) => one.id === toolUse);
  if (waiting.length === 0)
    throw new Refused(
      toolUse === undefined ? 'no call waits for permission' : `${toolUse} does not wait for permission`,
    );
  if (!isAllow && !isDeny) {
    for (const { id: call, event } of waiting) {
      terminal.out(`${call}:`);
      terminal.out(shownInput(String(event?.name), (event?.input ?? {}) as JsonObject));
    }
    return exitCodes.needsAction;
  }
  if (waiting.length > 1 && options.all !== true)
    throw new Refused(`${waiting.length} calls wait: ${waiting.map((one) => one.id).join(', ')}`, {
      hint: 'name one of them, or answer them together with --all',
      exitCode: exitCodes.usage,
    });
  const message = typeof options.deny === 'string' ? { deny_message: options.deny } : {};
  const events = waiting.map((one) => ({
    type: 'user.tool_confirmation',
    tool_use_id: one.id,
    ...(isAllow ? { result: 'allow' } : { result: 'deny', ...message }),
  }));
  await client.post(`/v1/sessions/${id}/events`, { json: { events } });
  for (const one of waiting) terminal.err(`${isAllow ? 'allowed' : 'denied'}: ${one.id}`);
  return exitCodes.done;
}
