/** Environments (managed-agents-protocol.md §3): params, and the object as it is stored and shown. */
import { z } from 'zod';
import { metadata, metadataParam, timestamp, unavailable } from './fields.ts';
import { hostPattern } from './hosts.ts';
import { isolationParams, isolationProblem, isolationShown, mergedIsolation } from './isolation.ts';
import { limitsParams, limitValues } from './limits.ts';

/** As its manager writes it, version included. What begins with a dash would be an option of the manager. */
const packageSpec = z.string().regex(/^[A-Za-z0-9@][^\s\0]{0,213}$/, 'a package as its manager writes it');
const packageSpecs = z.array(packageSpec).max(500).nullish();

const packagesParams = z.strictObject({
  type: z.literal('packages').optional(),
  apt: packageSpecs,
  cargo: packageSpecs,
  gem: packageSpecs,
  go: packageSpecs,
  npm: packageSpecs,
  pip: packageSpecs,
});

const maxFileChars = 256 * 1024;

/** Ours: what a layer is made of besides packages, and what its sessions do at their start. */
const buildParams = {
  /** What lies below: the /usr of the machine. */
  base: z
    .literal('host', {
      error: () => unavailable('other bases than "host" are', 'send {"base": "host"} or leave it out'),
    })
    .nullish(),
  /** Written into the layer. */
  files: z
    .array(
      z.strictObject({
        path: z
          .string()
          .max(1000)
          .regex(
            /^\/opt\/env\/(?!\.\.?(\/|$))[^\0]*[^/\0]$/,
            'a path below /opt/env: elsewhere nothing of an environment is kept',
          )
          .refine((path) => !path.split('/').includes('..'), 'must not have ".." in it'),
        content: z.string().max(maxFileChars),
      }),
    )
    .max(100)
    .nullish(),
  /** Run in order by bash in /opt/env, with the registries of package managers to be reached and nothing else. */
  setup: z
    .array(
      z.strictObject({
        run: z.string().min(1).max(20_000),
        /** Variables of vaults that this command has, and no other. They must name their hosts. */
        secrets: z
          .array(
            z.strictObject({
              vault_id: z.string().max(100),
              name: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,254}$/),
            }),
          )
          .max(20)
          .nullish(),
      }),
    )
    .max(50)
    .nullish(),
  /** Variables of every program of a session. */
  env: z
    .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,99}$/, 'a name of a variable'), z.string().max(20_000))
    .refine((env) => Object.keys(env).length <= 100, 'at most 100 variables')
    .nullish(),
};

const networkRuleParams = z.strictObject({
  effect: z.enum(['allow', 'ask', 'deny']),
  hosts: z.array(hostPattern).min(1).max(100),
  ports: z.array(z.int().min(1).max(65_535)).min(1).max(100).nullish(),
  methods: z
    .array(z.string().regex(/^[A-Z]{1,20}$/, 'an HTTP method in capitals'))
    .min(1)
    .max(20)
    .nullish(),
  paths: z.array(z.string().startsWith('/').max(500)).min(1).max(100).nullish(),
});

const networkingParams = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('unrestricted') }),
  z.strictObject({
    type: z.literal('limited'),
    allowed_hosts: z.array(hostPattern).max(200).nullish(),
    allow_mcp_servers: z.boolean().nullish(),
    allow_package_managers: z.boolean().nullish(),
    /** Ours: finer rules, with ports, methods and paths; deny wins over ask, ask over allow. */
    rules: z.array(networkRuleParams).max(200).nullish(),
    /** Ours: what happens to a host that no rule names. */
    unknown_hosts: z.enum(['deny', 'ask']).nullish(),
    /** Ours: bytes both ways that one host may have in the session's life; null: no bound. */
    max_bytes_per_host: z.int().positive().nullish(),
  }),
]);

const checkpointPolicy = z.enum(['cheap', 'turn_end', 'off']);

const configParams = z.strictObject({
  type: z.literal('cloud', {
    error: (issue) =>
      issue.input === 'self_hosted'
        ? unavailable('self_hosted environments are', 'send {"type": "cloud"}: it runs on this very server')
        : undefined,
  }),
  networking: networkingParams.nullish(),
  /** Ours: what bounds its sessions; a member that is omitted is the server's default. */
  limits: limitsParams.nullish(),
  /** Ours: checkpoints at the end of turns. `cheap` (the default): where the host's disks make them cost little. */
  checkpoints: checkpointPolicy.nullish(),
  packages: packagesParams.nullish(),
  ...isolationParams,
  ...buildParams,
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

const unrestricted = z.looseObject({ type: z.literal('unrestricted') });
const networkRule = z.looseObject({
  effect: z.enum(['allow', 'ask', 'deny']),
  hosts: z.array(z.string()),
  ports: z.array(z.int()).nullable(),
  methods: z.array(z.string()).nullable(),
  paths: z.array(z.string()).nullable(),
});
const limited = z.looseObject({
  type: z.literal('limited'),
  allowed_hosts: z.array(z.string()),
  allow_mcp_servers: z.boolean(),
  allow_package_managers: z.boolean(),
  /** Absent in environments of before there was a gateway. */
  rules: z.array(networkRule).optional(),
  unknown_hosts: z.enum(['deny', 'ask']).optional(),
  max_bytes_per_host: z.int().nullable().optional(),
});

export const environmentConfig = z.looseObject({
  type: z.literal('cloud'),
  networking: z.discriminatedUnion('type', [unrestricted, limited]),
  /** Absent where nothing was asked for. */
  limits: limitValues.optional(),
  checkpoints: checkpointPolicy.optional(),
  packages: z.looseObject({
    type: z.literal('packages'),
    apt: z.array(z.string()),
    cargo: z.array(z.string()),
    gem: z.array(z.string()),
    go: z.array(z.string()),
    npm: z.array(z.string()),
    pip: z.array(z.string()),
  }),
  /** Absent where nobody said anything about them. */
  ...isolationShown,
  files: z.array(z.looseObject({ path: z.string(), content: z.string() })).optional(),
  setup: z
    .array(
      z.looseObject({
        run: z.string(),
        secrets: z.array(z.object({ vault_id: z.string(), name: z.string() })).optional(),
      }),
    )
    .optional(),
  env: z.record(z.string(), z.string()).optional(),
});

export const environment = z.looseObject({
  type: z.literal('environment'),
  id: z.string(),
  /** Ours: grows with every update. */
  version: z.int(),
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

/** What was said about the network merges with what was there (§3): what is omitted keeps its value. */
export function mergedNetworking(
  before: Networking,
  params: z.infer<typeof networkingParams> | null | undefined,
): Networking {
  if (!params) return before;
  if (params.type === 'unrestricted') return { type: 'unrestricted' };
  const old = before.type === 'limited' ? before : sealed;
  return {
    type: 'limited',
    allowed_hosts: params.allowed_hosts ?? old.allowed_hosts,
    allow_mcp_servers: params.allow_mcp_servers ?? old.allow_mcp_servers,
    allow_package_managers: params.allow_package_managers ?? old.allow_package_managers,
    rules: params.rules?.map(wholeRule) ?? old.rules ?? [],
    unknown_hosts: params.unknown_hosts ?? old.unknown_hosts ?? 'deny',
    max_bytes_per_host:
      params.max_bytes_per_host === undefined ? (old.max_bytes_per_host ?? null) : params.max_bytes_per_host,
  };
}

type ConfigParams = z.infer<typeof configParams>;

/** What an update says about a config, merged with what was there (§3): a part that is omitted keeps its value. */
export function mergedConfig(
  before: EnvironmentConfig,
  params: ConfigParams | null | undefined,
): EnvironmentConfig {
  if (!params) return before;
  const { packages } = before;
  const said = Object.entries(params.packages ?? {}).filter(([, specs]) => specs !== undefined);
  const files = params.files ?? before.files ?? [];
  const setup = params.setup?.map(wholeStep) ?? before.setup ?? [];
  const env = params.env ?? before.env ?? {};
  const {
    files: _files,
    setup: _setup,
    env: _env,
    isolation: _one,
    minimum_isolation: _least,
    ...rest
  } = before;
  return {
    ...rest,
    ...mergedIsolation(before, params),
    ...(params.checkpoints ? { checkpoints: params.checkpoints } : {}),
    networking: mergedNetworking(before.networking, params.networking),
    packages: {
      ...packages,
      ...Object.fromEntries(said.map(([name, specs]) => [name, specs ?? []])),
      type: 'packages',
    },
    ...(files.length > 0 ? { files } : {}),
    ...(setup.length > 0 ? { setup } : {}),
    ...(Object.keys(env).length > 0 ? { env } : {}),
  };
}

function wholeStep({ run, secrets }: NonNullable<ConfigParams['setup']>[number]) {
  return secrets?.length ? { run, secrets } : { run };
}

/** What is wrong with a config as a whole, where each part of it is well-formed; null: nothing. */
export function configProblem(config: EnvironmentConfig): string | null {
  const { packages } = config;
  if (packages.apt.length > 0)
    return `config.packages.apt: ${unavailable('apt packages are', 'they would change the system of the machine itself, which is the base')}`;
  return isolationProblem(config);
}

function wholeRule(rule: z.infer<typeof networkRuleParams>) {
  const { effect, hosts } = rule;
  return {
    ...{ effect, hosts },
    ports: rule.ports ?? null,
    methods: rule.methods ?? null,
    paths: rule.paths ?? null,
  };
}

export type Networking = EnvironmentConfig['networking'];
type Limited = Extract<Networking, { type: 'limited' }>;

/** Nobody is reached. What is not asked for is not given: the protocol's default would be `unrestricted`. */
const sealed: Limited = {
  type: 'limited',
  allowed_hosts: [],
  allow_mcp_servers: false,
  allow_package_managers: false,
  rules: [],
  unknown_hosts: 'deny',
  max_bytes_per_host: null,
};

export const defaultConfig: EnvironmentConfig = {
  type: 'cloud',
  networking: sealed,
  packages: { type: 'packages', apt: [], cargo: [], gem: [], go: [], npm: [], pip: [] },
};
