import { z } from 'zod';
import type { Unavailable } from '../../../engine/workspace.ts';
import { isProblem, problem } from '../../../protocol/errors.ts';
import { operation } from '../../operation.ts';
import { findSession } from '../../session-act.ts';

const sessionDiff = z.looseObject({
  type: z.literal('session_diff'),
  session_id: z.string(),
  base_commit: z.string().nullable(),
  diff: z.string(),
  files: z.array(
    z.looseObject({
      path: z.string(),
      status: z.string(),
      additions: z.int().nullable(),
      deletions: z.int().nullable(),
    }),
  ),
  is_whole: z.boolean(),
});

/** Ours: what the agent has changed so far, against the commit it began with. */
export const diffSession = operation({
  id: 'diffSession',
  method: 'get',
  path: '/v1/sessions/{session_id}/diff',
  tag: 'delivery',
  summary: 'Show what a session has changed in its repository',
  response: sessionDiff,
  problems: ['not_found', 'invalid_request', 'unavailable'],
  async run(call) {
    const found = await findSession(call);
    if (isProblem(found)) return found;
    const result = await call.deps.sandbox.diff(found.id);
    if (!result.ok) return refused(result);
    const { diff, baseCommit, files, isWhole } = result;
    return {
      body: {
        type: 'session_diff',
        session_id: found.id,
        base_commit: baseCommit,
        diff,
        files,
        is_whole: isWhole,
      },
    };
  },
});

export function refused(refusal: Unavailable) {
  return problem(refusal.reason === 'unavailable' ? 'unavailable' : 'invalid_request', refusal.message);
}
