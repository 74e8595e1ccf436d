/** The host's methods of disks and checkpoints: parameters are checked, the fence is, then checkpoints.ts does it. */
import { isRefusal } from '../executor.ts';
import {
  listCheckpoints,
  makeCheckpoint,
  readArchive,
  removeCheckpoint,
  restoreCheckpoint,
  writeArchive,
} from './checkpoints.ts';
import type { Host } from './host.ts';
import { type Params, takeCall, takeSession } from './params.ts';
import type { Session } from './session.ts';
import { encodeBytes } from './wire.ts';

type Answer = Promise<object>;
type WithSession = (
  host: Host,
  request: { session: string; fence: number },
  act: (session: Session) => Answer,
) => Answer;

const MAX_PIECE_BYTES = 16 << 20;
const MAX_ARCHIVE_BYTES = 2 ** 45;
const checkpointName = /^[A-Za-z0-9._:-]+$/;

const takeName = (params: Params): string => params.string('checkpoint', 200, checkpointName);

/** `withSession` lets the caller's fence in. */
export function checkpointMethods(
  withSession: WithSession,
): Record<string, (host: Host, params: Params) => Answer> {
  return {
    'checkpoint/make': (host, params) => {
      const checkpoint = takeName(params);
      return withSession(host, takeSession(params), (session) =>
        makeCheckpoint(host.disks, session, checkpoint),
      );
    },
    'checkpoint/restore': async (host, params) => {
      const request = takeCall(params);
      const about = params.object('from');
      const from = { session: about.string('session', 128, /^[A-Za-z0-9_-]+$/), checkpoint: takeName(about) };
      await host.findOrMake(request.session);
      return withSession(host, request, (session) => {
        const source = from.session === session.id ? session : host.find(from.session);
        return restoreCheckpoint(host.disks, session, source, { callId: request.callId, from });
      });
    },
    'checkpoint/remove': (host, params) => {
      const checkpoint = takeName(params);
      return withSession(host, takeSession(params), (session) =>
        removeCheckpoint(host.disks, session, checkpoint),
      );
    },
    'checkpoint/list': (host, params) =>
      withSession(host, takeSession(params), async (session) => listCheckpoints(session)),
    'checkpoint/read': (host, params) => {
      const request = {
        checkpoint: takeName(params),
        offset: params.integer('offset', 0, MAX_ARCHIVE_BYTES),
        maxBytes: Math.min(MAX_PIECE_BYTES, params.integer('maxBytes', 1, Number.MAX_SAFE_INTEGER)),
      };
      return withSession(host, takeSession(params), async (session) => {
        const read = await readArchive(host.disks, session, request);
        return isRefusal(read) ? read : { ...read, data: encodeBytes(read.data) };
      });
    },
    'checkpoint/write': async (host, params) => {
      const request = {
        checkpoint: takeName(params),
        offset: params.integer('offset', 0, MAX_ARCHIVE_BYTES),
        data: params.bytes('data', MAX_PIECE_BYTES),
        isLast: params.boolean('isLast'),
      };
      const about = takeSession(params);
      await host.findOrMake(about.session);
      return withSession(host, about, (session) => writeArchive(session, request));
    },
  };
}
