import type { FleetDesk } from '../../fleet-desk.ts';

/**
 * POST /v1/hosts/join: a host asks whom to dial. Outside the list of operations because it is authenticated otherwise: by
 * a proof that the host has a token of this cluster, which does not travel itself.
 */
export async function joinHosts(fleet: FleetDesk | undefined, request: Request): Promise<string[] | null> {
  return (await fleet?.join(request.headers.get('authorization') ?? '')) ?? null;
}
