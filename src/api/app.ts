/**
 * The HTTP side of the house: routes, authentication, and the one place where endings become status codes.
 *
 * - Everything under /v1 needs a key before anything of the request is read further (S4); /healthz and /readyz are open.
 * - Every response has a `request-id`; every error has the envelope of managed-agents-protocol.md §1.8.
 * - S1: what goes wrong inside is told to `onBug`, never to the client.
 */
import type { Context } from 'hono';
import { Hono } from 'hono';
import type { Problem } from '../protocol/errors.ts';
import { errorEnvelope, errorKinds, isProblem, problem } from '../protocol/errors.ts';
import { failpoint, failpoints } from '../protocol/failpoint.ts';
import { newId } from '../protocol/ids.ts';
import { authenticate } from './authenticate.ts';
import type { ApiDeps } from './deps.ts';
import { defaultLimits } from './deps.ts';
import { failureOf } from './failure.ts';
import { eventFeed } from './feed.ts';
import { joinHosts } from './native/hosts/join.ts';
import { operations } from './native/operations.ts';
import type { Operation, Shared } from './operation.ts';

export type { ApiDeps } from './deps.ts';

type Vars = { Variables: { requestId: string } };

export function createApi(deps: ApiDeps): Hono<Vars> {
  const shared: Shared = {
    deps,
    limits: { ...defaultLimits, ...deps.limits },
    feed: eventFeed(deps.store),
    folded: deps.folded,
  };
  const app = new Hono<Vars>();
  app.use('*', async (context, next) => {
    context.set('requestId', newId('request', deps.now()));
    await next();
    context.header('request-id', context.get('requestId'));
    context.header('x-content-type-options', 'nosniff');
  });
  app.get('/healthz', (context) => context.json({ ok: true, version: deps.version }));
  app.get('/readyz', async (context) => {
    const readiness = await deps.ready();
    return context.json(readiness, readiness.ok ? 200 : 503);
  });
  app.post('/v1/hosts/join', async (context) => {
    const engines = await joinHosts(deps.fleet, context.req.raw);
    if (engines !== null) return context.json({ engines });
    return respond(context, problem('unauthenticated', 'The token of this host is not of this cluster.'));
  });
  for (const operation of operations) {
    app.on(operation.method.toUpperCase(), honoPath(operation.path), (context) =>
      serve(shared, operation, context),
    );
  }
  app.notFound((context) => respond(context, unknownRoute(context.req.method, context.req.path)));
  app.onError((error, context) => respond(context, failureOf(error, deps, context.get('requestId'))));
  return app;
}

async function serve(shared: Shared, operation: Operation, context: Context<Vars>): Promise<Response> {
  const principal = await authenticate(shared.deps.store, context.req.raw.headers);
  if (isProblem(principal)) return respond(context, principal);
  const answer = await operation.handle({
    ...shared,
    request: context.req.raw,
    url: new URL(context.req.url),
    requestId: context.get('requestId'),
    params: context.req.param(),
    principal,
  });
  if (failpoints.on && (await failpoint('api.before-reply')) === 'drop') return cutOff();
  if (answer instanceof Response) return answer;
  if (isProblem(answer)) return respond(context, answer);
  return context.json(answer.body);
}

/** Done, and nobody hears of it: the connection breaks in the middle of the answer. */
function cutOff(): Response {
  return new Response(
    new ReadableStream({
      start(controller) {
        controller.error(new Error('dropped at a failpoint'));
      },
    }),
  );
}

function respond(context: Context<Vars>, error: Problem): Response {
  const kind: { status: number; shouldRetry?: boolean } = errorKinds[error.problem];
  const headers: Record<string, string> = { 'content-type': 'application/json' };
  if (kind.shouldRetry !== undefined) headers['x-should-retry'] = String(kind.shouldRetry);
  if (kind.status === 401) headers['www-authenticate'] = 'Bearer';
  const body = JSON.stringify(errorEnvelope(error, context.get('requestId')));
  return new Response(body, { status: kind.status, headers });
}

function unknownRoute(method: string, path: string): Problem {
  const methods = operations
    .filter((one) => pattern(one.path).test(path))
    .map((one) => one.method.toUpperCase());
  if (methods.length > 0) {
    return problem('method_not_allowed', `${method} is not possible here; ${methods.join(', ')} is.`);
  }
  const resource = /^\/v1\/(?:sessions\/[^/]+\/|environments\/[^/]+\/)?(\w+)/.exec(path)?.[1] ?? '';
  if (notBuilt.has(resource)) {
    return problem(
      'not_found',
      `The managed-agents protocol has ${resource}; this version of Scriptorium does not.`,
    );
  }
  return problem('not_found', `There is no ${path.slice(0, 200)} here.`);
}

const notBuilt = new Set([
  'deployment_runs',
  'deployments',
  'dreams',
  'memory_stores',
  'messages',
  'models',
  'organizations',
  'skills',
  'tunnels',
  'user_profiles',
  'work',
]);

function honoPath(path: string): string {
  return path.replace(/\{(\w+)\}/g, ':$1');
}

function pattern(path: string): RegExp {
  return new RegExp(`^${path.replace(/\{\w+\}/g, '[^/]+')}$`);
}
