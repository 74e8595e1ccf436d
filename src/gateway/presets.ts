/**
 * Hosts that have a common name, as lists of host patterns: what `allow_package_managers` and the git hosts mean.
 * Names, not wildcards, wherever the service is content with names: each wildcard is a channel for labels to leave by.
 */

/** By the package manager that asks for them. */
export const packageRegistries = {
  npm: ['registry.npmjs.org', 'registry.yarnpkg.com', 'npm.jsr.io', 'jsr.io'],
  pip: ['pypi.org', 'files.pythonhosted.org'],
  cargo: ['crates.io', 'index.crates.io', 'static.crates.io'],
  gem: ['rubygems.org', 'index.rubygems.org'],
  go: ['proxy.golang.org', 'sum.golang.org'],
  apt: [
    'deb.debian.org',
    'security.debian.org',
    'archive.ubuntu.com',
    'security.ubuntu.com',
    'ports.ubuntu.com',
  ],
  maven: ['repo1.maven.org', 'repo.maven.apache.org', 'plugins.gradle.org', 'services.gradle.org'],
  nuget: ['api.nuget.org'],
  composer: ['repo.packagist.org', 'packagist.org'],
  conda: ['conda.anaconda.org', 'repo.anaconda.com'],
  apk: ['dl-cdn.alpinelinux.org'],
} as const satisfies Record<string, readonly string[]>;

/** What a clone or a fetch over https asks of each, large files and release archives included. */
export const gitHosts = {
  github: [
    'github.com',
    'api.github.com',
    'codeload.github.com',
    'raw.githubusercontent.com',
    'objects.githubusercontent.com',
    'release-assets.githubusercontent.com',
    'github-cloud.githubusercontent.com',
  ],
  gitlab: ['gitlab.com'],
  bitbucket: ['bitbucket.org', 'api.bitbucket.org'],
  codeberg: ['codeberg.org'],
} as const satisfies Record<string, readonly string[]>;

/** Every registry's hosts, once each: the hosts of the rule `package_managers`. */
export function packageManagerHosts(): string[] {
  return [...new Set(Object.values(packageRegistries).flat())];
}
