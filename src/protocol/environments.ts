/** Environments (managed-agents-protocol.md §3): params, and the object as it is stored and shown. */
import { z } from 'zod';
import { metadata, metadataParam, timestamp, unavailable } from './fields.ts';

const noPackages = z
  .array(z.unknown())
  .max(0, {
    error: () => unavailable('packages are', 'leave them out; the base image is what the sandbox has'),
  })
  .nullish();

const packagesParams = z.strictObject({
  type: z.literal('packages').optional(),
  apt: noPackages,
  cargo: noPackages,
  gem: noPackages,
  go: noPackages,
  npm: noPackages,
  pip: noPackages,
});

const noNetwork = 'send networking: {"type": "limited"} or leave it out';

const falseOnly = (what: string) =>
  z.literal(false, { error: () => unavailable(`${what} is`, 'leave it out or send false') }).nullish();

const networkingParams = z.strictObject({
  type: z.literal('limited', {
    error: (issue) =>
      issue.input === 'unrestricted' ? unavailable('network access is', noNetwork) : undefined,
  }),
  allowed_hosts: z
    .array(z.unknown())
    .max(0, { error: () => unavailable('network access is', 'leave allowed_hosts out or send []') })
    .nullish(),
  allow_mcp_servers: falseOnly('allow_mcp_servers'),
  allow_package_managers: falseOnly('allow_package_managers'),
});

const configParams = z.strictObject({
  type: z.literal('cloud', {
    error: (issue) =>
      issue.input === 'self_hosted'
        ? unavailable('self_hosted environments are', 'send {"type": "cloud"}: it runs on this very server')
        : undefined,
  }),
  networking: networkingParams.nullish(),
  packages: packagesParams.nullish(),
});

const name = z.string().min(1).max(256);
const description = z.string().max(2048);
const scope = z.literal('organization', { error: () => 'only "organization" is possible with an API key' });

export const environmentCreateParams = z.strictObject({
  name,
  description: description.nullish(),
  metadata: metadataParam.nullish(),
  scope: scope.nullish(),
  config: configParams.nullish(),
});

export const environmentUpdateParams = z.strictObject({
  name: name.nullish(),
  description: description.nullish(),
  /** A patch; `null` and `""` delete. */
  metadata: z.record(z.string().min(1).max(64), z.string().max(512).nullable()).nullish(),
  scope: scope.nullish(),
  config: configParams.nullish(),
});

export const environmentConfig = z.looseObject({
  type: z.literal('cloud'),
  networking: z.looseObject({
    type: z.literal('limited'),
    allowed_hosts: z.array(z.string()),
    allow_mcp_servers: z.boolean(),
    allow_package_managers: z.boolean(),
  }),
  packages: z.looseObject({
    type: z.literal('packages'),
    apt: z.array(z.string()),
    cargo: z.array(z.string()),
    gem: z.array(z.string()),
    go: z.array(z.string()),
    npm: z.array(z.string()),
    pip: z.array(z.string()),
  }),
});

export const environment = z.looseObject({
  type: z.literal('environment'),
  id: z.string(),
  name: z.string(),
  description: z.string().nullable(),
  config: environmentConfig,
  metadata,
  scope: z.literal('organization'),
  state: z.enum(['active', 'archived']),
  created_at: timestamp,
  updated_at: timestamp,
  archived_at: timestamp.nullable(),
});

export type EnvironmentConfig = z.infer<typeof environmentConfig>;
export type Environment = z.infer<typeof environment>;

/** The one configuration there is: a sandbox on this server without a network. Said, not pretended (S4). */
export const resolvedConfig: EnvironmentConfig = {
  type: 'cloud',
  networking: { type: 'limited', allowed_hosts: [], allow_mcp_servers: false, allow_package_managers: false },
  packages: {
    type: 'packages',
    apt: [],
    cargo: [],
    gem: [],
    go: [],
    npm: [],
    pip: [],
  },
};
