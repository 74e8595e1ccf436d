/** What a run leaves behind to be judged: the logs, what clients were told, and what the witness saw. Plain values. */
import type { JsonObject } from '../src/protocol/json.ts';
import type { StoredEvent } from '../src/store/store.ts';

export type LogEvent = Pick<
  StoredEvent,
  'id' | 'type' | 'seq' | 'time' | 'fence' | 'call' | 'audience' | 'public' | 'private'
>;

export type SessionEvidence = {
  id: string;
  /** As the store has it, read when everything was quiet. */
  log: LogEvent[];
  /** As the API lists it. */
  listed: JsonObject[];
  /** Why it did not come to rest in time; null where it did. */
  unrest: string | null;
};

/** Something a client sent to a session, by whatever number of requests. */
export type InputEvidence = {
  session: string;
  /** Text of a message, which no other message has; null for answers to tool calls. */
  text: string | null;
  hasKey: boolean;
  requests: number;
  /** The event id of each positive answer. */
  acknowledged: string[];
};

export type Frame = { type: string; data: JsonObject };

/** Frames of one position of the log. */
export type Group = { seq: number; frames: Frame[] };

export type ReaderEvidence = { session: string; name: string; groups: Group[]; connections: number };

export type Evidence = {
  sessions: SessionEvidence[];
  inputs: InputEvidence[];
  readers: ReaderEvidence[];
  /** Nonces, each time that one took effect. */
  effects: string[];
  /** When a host was killed, wall clock, and which; null where there is one only. */
  hostDeaths: { atMs: number; host: string | null }[];
  /** Then times in the log say nothing. */
  clockJumped: boolean;
  /** Processes that ended though nobody ended them. */
  crashes: string[];
  /** What `fsck` and `replay` say. */
  audits: string[];
};

/** Which promise of docs/operations/durability.md is broken. */
export type Invariant = 'I1' | 'I2' | 'I3' | 'I4' | 'I5' | 'I6' | 'I7' | 'I8' | 'audit' | 'crash';

export type Violation = { invariant: Invariant; session: string | null; message: string };

/** In the command of every call that has an effect, so that call and effect can be matched. */
export function nonceOf(command: unknown): string | null {
  return /nonce=([\w.-]+);/.exec(typeof command === 'string' ? command : '')?.[1] ?? null;
}
