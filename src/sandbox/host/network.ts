/** What asking for a sandbox means for its network: where it runs already, and where its host does not know the word. */
import type { RunningSandbox } from '../backend.ts';
import type { Refusal, SandboxInfo, SandboxSpec } from '../executor.ts';

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

/** A host of an earlier release adopts nothing of the gateway: it starts a sandbox without network and says so. */
export function networkLack(made: SandboxInfo, spec: SandboxSpec): Refusal | null {
  if (spec.network?.kind !== 'gateway' || made.network === 'gateway') return null;
  return {
    refused: 'isolation_unavailable',
    message: `the host gave the sandbox the network "${made.network}": it is of an earlier release; end it, and a new one is started`,
  };
}
