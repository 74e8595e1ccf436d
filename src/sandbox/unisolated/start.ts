/**
 * No isolation at all: the same guest beside the host's own processes, for machines where nothing else can be had and
 * an operator said so (--allow-unisolated). The port's paths are mapped onto the session's folders for file tools and
 * working directories; inside a command's own text they mean nothing.
 */
import type { Programs, RunningSandbox, SessionFolders, StartRequest } from '../backend.ts';
import { type Refusal, sandboxPaths } from '../executor.ts';
import { startGuest } from '../guest/start.ts';
import { effectiveLimits, limitWarnings } from '../limits.ts';
import { type CgroupPlaces, SandboxCgroups } from '../local/cgroup.ts';
import { withinOurs } from '../local/rlimits.ts';

export async function startUnisolated(
  programs: Programs,
  cgroups: CgroupPlaces,
  request: StartRequest,
): Promise<RunningSandbox | Refusal> {
  const groups = new SandboxCgroups(cgroups, request.name, request.limits);
  const args = groups.procsFiles.flatMap((file) => ['--cgroup', file]);
  const { limits } = request;
  const isBound = cgroups.kind !== 'none';
  for (const [name, value] of [
    ['core', 0],
    ['fsize', limits.fileBytes],
    ['nofile', limits.openFiles],
    // Per process, and only private writable memory: the nearest thing without a cgroup.
    ...(isBound ? [] : ([['data', limits.memoryBytes]] as const)),
  ] as const)
    args.push('--rlimit', `${name}=${Math.floor(value)}`);
  args.push('--keep', '3');
  const started = await startGuest(programs.launch, [...args, '--', programs.guest, '--subreaper']);
  if ('problem' in started) {
    await groups.remove();
    return { refused: 'isolation_unavailable', message: `the guest did not start: ${started.problem}` };
  }
  const effective = effectiveLimits(
    withinOurs(limits),
    isBound ? groups.boundBy : { cpu: 'none', memory: 'rlimit_per_process', processes: 'none' },
  );
  return {
    link: started.link,
    info: {
      isolation: 'none',
      limitsBy: cgroups.kind === 'none' ? 'rlimits' : cgroups.kind,
      seccomp: false,
      ownUid: null,
      network: 'host',
      warnings: [
        "NO ISOLATION: commands run as the host's own user, with its files, network and processes",
        `the workspace is ${request.folders.workspace}, not ${sandboxPaths.workspace}`,
        ...limitWarnings(limits, effective),
      ],
      limits: effective,
    },
    oomKills: () => groups.oomKills(),
    counters: () => groups.counters(),
    ...pathMaps(request.folders),
    stop: async () => {
      await started.stop();
      await groups.remove();
    },
  };
}

function pathMaps(folders: SessionFolders): Pick<RunningSandbox, 'inside' | 'outside'> {
  const pairs: [string, string][] = [
    [sandboxPaths.workspace, folders.workspace],
    [sandboxPaths.outputs, folders.outputs],
    [sandboxPaths.uploads, folders.uploads],
    [sandboxPaths.home, folders.home],
  ];
  const map = (from: 0 | 1) => (path: string) => {
    for (const pair of pairs) {
      const prefix = pair[from];
      if (path === prefix || path.startsWith(`${prefix}/`)) return pair[1 - from] + path.slice(prefix.length);
    }
    return path;
  };
  return { inside: map(0), outside: map(1) };
}
