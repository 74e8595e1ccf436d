/** What keeps a session from its machine: how an environment says it, and how a session pins it. Pure. */
import { z } from 'zod';

/** `bubblewrap`: namespaces and a filter on the host's kernel. `gvisor`: a kernel of its own in user space. */
export type Isolation = 'bubblewrap' | 'gvisor' | 'none';

const named = z.enum(['namespace', 'gvisor']);
type Named = z.infer<typeof named>;

/** Ours, in an environment's config. Null and absent: the server's own, and no minimum. */
export const isolationParams = {
  /** Exactly this one. */
  isolation: named.nullish(),
  /** This one or a stronger. A machine that cannot answers `isolation_unavailable`; nothing weaker is started. */
  minimum_isolation: named.nullish(),
};

export const isolationShown = { isolation: named.optional(), minimum_isolation: named.optional() };

type Said = { isolation?: Named | null | undefined; minimum_isolation?: Named | null | undefined };
type Shown = { isolation?: Named; minimum_isolation?: Named };

const strengths: Record<Isolation, number> = { none: 0, bubblewrap: 1, gvisor: 2 };

function pinned(name: Named): Isolation {
  return name === 'namespace' ? 'bubblewrap' : name;
}

/** What is omitted keeps its value; null takes it back. */
export function mergedIsolation(before: Said, params: Said | null | undefined): Shown {
  const after = { ...before, ...without(params ?? {}, undefined) };
  const { isolation, minimum_isolation } = after;
  return { ...(isolation ? { isolation } : {}), ...(minimum_isolation ? { minimum_isolation } : {}) };
}

function without(said: Said, value: undefined): Said {
  return Object.fromEntries(Object.entries(said).filter(([, one]) => one !== value));
}

/** Why no session could have both, or null. */
export function isolationProblem({ isolation, minimum_isolation }: Said): string | null {
  if (!isolation || !minimum_isolation) return null;
  if (strengths[pinned(isolation)] >= strengths[pinned(minimum_isolation)]) return null;
  return `config.isolation: "${isolation}" is weaker than the minimum_isolation "${minimum_isolation}"`;
}

/** What a session of this environment pins. Where only a minimum is asked, the server's own counts if it is stronger. */
export function isolationOf({ isolation, minimum_isolation }: Said, own: Isolation): Isolation {
  if (isolation) return pinned(isolation);
  if (!minimum_isolation) return own;
  const least = pinned(minimum_isolation);
  return strengths[own] >= strengths[least] ? own : least;
}
