import type { Readiness } from './deps.ts';

type Check = Readiness['checks'][string];

/** All must settle well; what does not says why. */
export async function readiness(work: Record<string, Promise<unknown>>): Promise<Readiness> {
  const checks: Record<string, Check> = {};
  for (const [name, one] of Object.entries(work))
    checks[name] = await one.then(
      () => ({ ok: true }),
      (error: Error) => ({ ok: false, message: error.message }),
    );
  return { ok: Object.values(checks).every(({ ok }) => ok), checks };
}
