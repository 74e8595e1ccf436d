/**
 * What is written in a session's log: one envelope for every event, one union of types.
 *
 * Stored types are the native protocol's where it has one (managed-agents-protocol.md §5), ours where not. `public` is
 * what lists, SSE and webhooks may show (without `id`, `type`, `processed_at`, which the reader joins); `private` is for
 * the engine alone: provider items verbatim, digests, bindings. Both are sealed at rest under the session's key.
 *
 * The schema only grows within a release line. `fold` ignores types it does not know, so an older log always folds.
 */
import type { ContentBlock } from '../protocol/content.ts';
import type { Isolation } from '../protocol/isolation.ts';
import type { Json, JsonObject } from '../protocol/json.ts';
import type { OutputItem, RequestPrefix, TokenUsage } from './model-request.ts';

export const eventSchemaVersion = 1;

/** Who may read the public payload: anyone with the session, the operator, or nobody outside the engine. */
export type Audience = 'public' | 'operator' | 'internal';

export type ToolPolicy = 'always_allow' | 'always_ask';

/** A tool the agent may call in this session, as pinned at creation. */
export type PinnedTool =
  | { kind: 'builtin'; name: string; policy: ToolPolicy; isPure: boolean }
  | { kind: 'custom'; name: string; policy: 'always_allow'; isPure: true };

export type Delivery = 'queue' | 'steer';

export type StopReason =
  | { type: 'end_turn' }
  | { type: 'requires_action'; event_ids: string[] }
  | { type: 'retries_exhausted' }
  | { type: 'refusal' };

export type StopDetails = { type: 'refusal'; category: null; explanation: string | null } | null;

/** The payloads by type. `P` public, `X` private. */
export type EventBodies = {
  // ---- inputs, from outside (L3: unfenced, idempotent by request)
  'user.message': { P: { content: ContentBlock[]; delivery?: Delivery }; X: null };
  'user.interrupt': { P: { session_thread_id?: string }; X: null };
  'user.tool_confirmation': {
    P: { tool_use_id: string; result: 'allow' | 'deny'; deny_message?: string };
    X: null;
  };
  'user.custom_tool_result': {
    P: { custom_tool_use_id: string; content?: ContentBlock[]; is_error?: boolean };
    X: null;
  };
  /** Ours: what a person says about a host that the sandbox asked for, or will. */
  'user.network_access': { P: { host: string; port?: number; result: 'allow' | 'deny' }; X: null };

  // ---- the session's own life
  'session.created': {
    P: { title: string | null };
    X: {
      thread: string;
      /** The native SessionAgent snapshot, as `GET` shows it. */
      agent: JsonObject;
      environmentId: string;
      environment: JsonObject;
      /** In the order in which they are searched; absent where there are none. Secrets are never here (S1). */
      vaultIds?: string[];
      /** Pinned so that L7 holds across upgrades. */
      prefix: RequestPrefix;
      tools: PinnedTool[];
      isolation: Isolation;
      /** Repository to lay out before the first tool call: a bundle among the session's uploads. */
      repository: RepositoryPin | null;
      /** Files that stand in /mnt/session/uploads, besides the repository's bundle. */
      uploads: { name: string; blobSha256: string; sizeBytes: number }[];
      metadata: Record<string, string>;
      resources: JsonObject[];
    };
  };
  'session.updated': { P: { title?: string | null; metadata?: Record<string, string> }; X: null };
  'session.status_running': { P: Record<string, never>; X: null };
  'session.status_idle': { P: { stop_reason: StopReason; stop_details: StopDetails }; X: null };
  'session.status_rescheduled': { P: Record<string, never>; X: null };
  'session.status_terminated': { P: Record<string, never>; X: null };
  'session.thread_status_running': { P: { session_thread_id: string; agent_name: string }; X: null };
  'session.thread_status_idle': {
    P: { session_thread_id: string; agent_name: string; stop_reason: StopReason; stop_details: StopDetails };
    X: null;
  };
  'session.thread_status_rescheduled': { P: { session_thread_id: string; agent_name: string }; X: null };
  'session.thread_status_terminated': { P: { session_thread_id: string; agent_name: string }; X: null };
  'session.usage': { P: { usage: JsonObject; budget: null }; X: null };
  'session.error': {
    P: {
      error: {
        type: string;
        message: string;
        retry_status: { type: 'retrying' | 'exhausted' | 'terminal' };
      } & JsonObject;
    };
    X: null;
  };
  'session.archived': { P: Record<string, never>; X: null };
  'session.deleted': { P: Record<string, never>; X: null };

  // ---- the driver's record
  /** Inputs taken up; gives them their `processed_at`. */
  'input.processed': { P: { event_ids: string[] }; X: null };
  'turn.started': { P: { turn_id: string; event_ids: string[] }; X: null };
  /** Messages that asked to be heard at the next boundary of a turn already under way. */
  'turn.steered': { P: { turn_id: string; event_ids: string[] }; X: null };
  'turn.ended': { P: { turn_id: string; stop_reason: StopReason; interrupted: boolean }; X: null };
  'span.model_request_start': { P: Record<string, never>; X: null };
  'span.model_request_end': {
    P: {
      model_request_start_id: string;
      is_error: boolean;
      model_usage: {
        input_tokens: number;
        output_tokens: number;
        cache_creation_input_tokens: number;
        cache_read_input_tokens: number;
      };
      /** Ours: price in millionths of a US dollar; null where the model's price is unknown. */
      cost_micros: number | null;
    };
    X: null;
  };
  /** L5, G3: committed before the request leaves. `call` of the envelope is its id and the reservation's. */
  'model.intent': {
    P: { model_request_start_id: string; round: number; attempt: number };
    X: { requestSha256: string; model: string };
  };
  'model.response': {
    P: { model_request_start_id: string };
    X: {
      provider: string;
      wire: string;
      model: string;
      items: Json[];
      output: (OutputItem & { index: number; eventId: string })[];
      stop: 'end' | 'max_output' | 'refusal';
      usage: TokenUsage;
      costMicros: number | null;
    };
  };
  /** The attempt gave nothing that counts: failed, cut off, interrupted, or its engine died. */
  'model.failed': {
    P: { model_request_start_id: string; kind: string; message: string };
    X: { isRetryable: boolean; retryAfterMs: number | null; usage: TokenUsage | null };
  };
  /**
   * What streams showed live of this request will not come: the attempt failed and may be made again under fresh ids.
   * `event_ids` is null where the engine that showed it is gone and nobody knows them.
   */
  'preview.superseded': { P: { model_request_start_id: string; event_ids: string[] | null }; X: null };
  'timer.set': { P: { timer_id: string; at: string; reason: 'model_retry' }; X: null };
  'timer.fired': { P: { timer_id: string }; X: null };

  'agent.thinking': { P: Record<string, never>; X: null };
  'agent.message': { P: { content: ContentBlock[] }; X: null };
  'agent.tool_use': {
    P: {
      name: string;
      input: JsonObject;
      evaluated_permission: 'allow' | 'ask' | 'deny';
      evaluation?: { type: ToolPolicy };
    };
    X: { providerCallId: string; denyMessage?: string };
  };
  'agent.custom_tool_use': { P: { name: string; input: JsonObject }; X: { providerCallId: string } };
  /** L5: the exact call, durable before its effect. `call` of the envelope is the tool use's event id. */
  intent: { P: { tool_use_id: string; effect: string }; X: { inputSha256: string } };
  'agent.tool_result': {
    P: {
      tool_use_id: string;
      content: ContentBlock[];
      is_error: boolean;
      /** Ours: nobody can know whether it happened (L6). */
      in_doubt?: boolean;
      duration_ms?: number;
      details?: JsonObject;
    };
    X: { cwd?: string };
  };

  // ---- the hands
  /** What isolates the agent, honestly; the first event of the hands in every log. */
  'sandbox.started': { P: JsonObject; X: null };
  'sandbox.ready': { P: { repository: JsonObject | null }; X: { baseCommit: string | null } };
  'sandbox.failed': { P: { message: string }; X: null };
  /** Something ran into a limit of the environment; enforced, and told afterwards. */
  'sandbox.limit_reached': {
    P: {
      limit: string;
      value: number;
      /** How much it cost, in a unit of the limit's own; null where there is nothing to count. */
      amount: number | null;
      /** The tool use during which it was; null: outside any call. */
      call_id: string | null;
      message: string;
      at: string;
    };
    X: null;
  };
  /** The environment's layer is made, or found; before the first sandbox that has it. */
  'environment.build_started': { P: { base: string; packages: JsonObject }; X: null };
  /** The session has this layer from now on. */
  'environment.build_finished': {
    P: {
      digest: string;
      size_bytes: number;
      files: number;
      packages: number;
      reused: boolean;
      duration_ms: number;
      notes: string[];
    };
    X: null;
  };
  'environment.build_failed': {
    P: {
      step: string | null;
      command: string | null;
      exit_code: number | null;
      output: string;
      message: string;
    };
    X: null;
  };
  /** What lies below the layer is not what it was built on. */
  'environment.drifted': { P: { digest: string; message: string }; X: null };
  /**
   * S2: what the gateway let through or not, summed over a moment. An observation from outside (L3): unfenced, once per
   * (gateway, number).
   */
  'network.decision': {
    P: {
      decision: 'allowed' | 'denied' | 'asked';
      protocol: string;
      host: string;
      port: number | null;
      /** Id of the rule that decided; null where none was asked. */
      rule: string | null;
      reason: string | null;
      method: string | null;
      path: string | null;
      /** Ids of the credentials that were put in. */
      credential_ids: string[];
      count: number;
      bytes_sent: number;
      bytes_received: number;
      first_at: string;
      last_at: string;
    };
    X: null;
  };
  // ---- checkpoints: the workspace as it was at an event, and ways back to it
  /** An input: somebody wants one at the end of the turn, or now. */
  'checkpoint.requested': { P: { checkpoint_id: string }; X: null };
  /** L5: durable before the host is asked; the id is the host's name for it, so asking again makes no second one. */
  'checkpoint.intent': {
    P: { checkpoint_id: string; at_event_id: string; reason: CheckpointReason };
    X: null;
  };
  'checkpoint.created': {
    P: {
      checkpoint_id: string;
      at_event_id: string;
      reason: CheckpointReason;
      driver: string;
      size_bytes: number | null;
      files: number | null;
      took_ms: number;
      made_at: string;
    };
    X: null;
  };
  'checkpoint.failed': { P: { checkpoint_id: string; at_event_id: string; message: string }; X: null };
  'checkpoint.removed': { P: { checkpoint_id: string; because: 'requested' | 'superseded' }; X: null };
  /** An input: back to a checkpoint. Its id is the host's call id. */
  'session.rollback_requested': { P: { checkpoint_id: string }; X: null };
  /** From here on the session is what it was at `at_event_id`; what came after stays in the log and is not shown to the model. */
  'session.rolled_back': { P: { checkpoint_id: string; at_event_id: string }; X: null };
  'session.rollback_failed': { P: { checkpoint_id: string; message: string }; X: null };
  /** Ends the part of a log that was copied from another session's; what follows is this session's own. */
  'session.forked': {
    /** `checkpoint_id` is null where there was no workspace yet. */
    P: { from_session_id: string; at_event_id: string; checkpoint_id: string | null };
    /** The session's own copies of the parent's files, in place of those that `session.created` names. */
    X: { resources: JsonObject[] };
  };
  /** A fork has its workspace. */
  'workspace.restored': { P: { checkpoint_id: string; from_session_id: string }; X: null };
  /** The machine that held the workspace is given up; the next tool call begins with the workspace as it was given. */
  workspace_lost: { P: { host: string; message: string }; X: null };
};

/** At the end of a turn by itself, or because somebody asked. */
export type CheckpointReason = 'turn_end' | 'requested';

export type EventType = keyof EventBodies;

export type RepositoryPin = {
  /** Name among the session's uploads. */
  upload: string;
  /** Digest of the blob that holds the bundle. */
  blobSha256: string;
  sizeBytes: number;
  mountPath: string;
  /** Branch to be on; null: detached. */
  branch: string | null;
  /** The commit HEAD was at; null for a repository without commits. */
  head: string | null;
  /** Ref in the bundle whose tree is the working tree as it was, uncommitted and untracked files included. */
  snapshotRef: string;
};

/** An event before the store has given it a place. Ids are minted in the shell. */
export type DraftOf<T extends EventType> = {
  id: string;
  type: T;
  actor: string;
  thread: string | null;
  turn: string | null;
  call: string | null;
  causation: string | null;
  audience: Audience;
  public: EventBodies[T]['P'];
  private: EventBodies[T]['X'];
};

/** An event in its place: (stream, seq) is its cursor. */
export type StoredOf<T extends EventType> = DraftOf<T> & {
  organization: string;
  project: string;
  stream: string;
  seq: number;
  schemaVersion: number;
  /** RFC 3339, milliseconds, UTC; never decreases along a stream. */
  time: string;
  fence: number | null;
};

export type Draft = { [T in EventType]: DraftOf<T> }[EventType];
export type Stored = { [T in EventType]: StoredOf<T> }[EventType];
