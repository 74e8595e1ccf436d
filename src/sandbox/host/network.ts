/** What creating a sandbox that runs already means for its network. */
import type { RunningSandbox } from '../backend.ts';
import type { Refusal, SandboxSpec } from '../executor.ts';

/**
 * Presents the sandbox's sockets again where the ticket is another one. A network of another kind is refused: what runs
 * inside keeps the one it began with, and whoever asks must not believe otherwise (S4).
 */
export async function renewNetwork(sandbox: RunningSandbox, spec: SandboxSpec): Promise<Refusal | null> {
  const has = sandbox.info.network;
  const asked = spec.network ?? { kind: 'none' };
  if (asked.kind === 'gateway' && sandbox.connect !== undefined) return sandbox.connect(asked);
  if (asked.kind === 'none' && has !== 'gateway') return null;
  return {
    refused: 'isolation_unavailable',
    message: `the sandbox that runs has the network "${has}" and not "${asked.kind}": destroy it first`,
  };
}
