/**
 * The way out: everything the agent made, as commits in one git bundle among the organisation's blobs.
 *
 * The chain that is delivered, oldest first: the user's HEAD (not in the bundle, the user has it); the user's
 * uncommitted work, where there was any; the agent's commits; what the agent left uncommitted, where there is any.
 *
 * Promises kept here
 * - S3: git runs inside the sandbox; the host copies bytes it does not read, up to a cap.
 * - The agent's repository is left as it is: new objects and refs live in a temporary repository beside it.
 * - Asking twice without a change between gives the same commits (dates are those of the parents).
 * - The tree of the last commit is exactly the workspace.
 *
 * The agent commits on the user's HEAD, with the user's uncommitted work lying around uncommitted. So that this work
 * becomes a commit of its own, the agent's commits are put on top of it: each gets the tree it would have had, the
 * base with the paths replaced in which the commit differs from HEAD.
 */
import type { CallRef, Executor } from '../sandbox/executor.ts';
import { isRefusal } from '../sandbox/executor.ts';
import type { RepositoryPin } from '../session/events.ts';
import type { Blobs } from '../store/store.ts';
import { runScript } from './in-sandbox.ts';
import { uploadPath } from './layout.ts';
import { workspaceStateScript } from './workspace-state.ts';

export type DeliveredCommit = { sha: string; subject: string };

export type DeliveryBundle =
  | {
      ok: true;
      sha256: string;
      sizeBytes: number;
      /** The one ref in the bundle. */
      ref: string;
      /** Last commit: the workspace as it is. */
      head: string;
      /** The working tree as the user had it; equal to the user's HEAD where nothing was uncommitted. */
      base: string;
      /** Oldest first, without `base`; at most `maxCommits`. */
      commits: DeliveredCommit[];
    }
  /** The workspace is as the user had it. */
  | { ok: true; sha256: null; base: string; head: string }
  | { ok: false; message: string };

export type DeliveryOptions = { maxBytes?: number; maxCommits?: number; signal?: AbortSignal };

export const deliveryRef = 'refs/scriptorium/delivery';

const DEFAULT_MAX_BYTES = 512 * 1024 * 1024;
const DEFAULT_MAX_COMMITS = 2_000;
const TIMEOUT_MS = 10 * 60_000;
const CHUNK_BYTES = 1024 * 1024;

export async function bundleWorkspace(
  executor: Executor,
  ref: CallRef,
  pin: RepositoryPin,
  baseCommit: string,
  target: { blobs: Blobs; organization: string } & DeliveryOptions,
): Promise<DeliveryBundle> {
  const maxBytes = target.maxBytes ?? DEFAULT_MAX_BYTES;
  const maxCommits = target.maxCommits ?? DEFAULT_MAX_COMMITS;
  const outcome = await runScript(executor, ref, {
    script: workspaceStateScript + bundleScript,
    args: [
      pin.mountPath,
      uploadPath(pin),
      baseCommit,
      pin.head ?? '',
      String(maxCommits),
      safeName(ref.callId),
    ],
    cwd: pin.mountPath,
    timeoutMs: TIMEOUT_MS,
    maxOutputBytes: 2 * 1024 * 1024,
    ...(target.signal === undefined ? {} : { signal: target.signal }),
  });
  if (!outcome.ok) return failed(outcome.message);
  const made = readReport(outcome.stdout);
  if (made === null) return failed('the sandbox gave no commit');
  if (made.file === null) return { ok: true, sha256: null, base: baseCommit, head: made.head };
  const blob = await readOut(executor, ref, made.file, maxBytes, target);
  if ('message' in blob) return failed(blob.message);
  return { ok: true, ...blob, ref: deliveryRef, head: made.head, base: baseCommit, commits: made.commits };
}

function failed(message: string): { ok: false; message: string } {
  return { ok: false, message: `The work could not be bundled: ${message}` };
}

function safeName(callId: string): string {
  return callId.replace(/[^A-Za-z0-9_-]/g, '-');
}

type Report = { file: string | null; head: string; commits: DeliveredCommit[] };

/** `head NUL file NUL (sha SP subject NUL)*`; the file is empty where there is nothing to deliver. */
function readReport(stdout: Buffer): Report | null {
  const [head = '', file = '', ...rest] = stdout.toString('utf8').split('\0');
  if (!/^[0-9a-f]{40,64}$/.test(head)) return null;
  const commits = rest.flatMap((line) => {
    const match = /^\n?([0-9a-f]{40,64}) ([\s\S]*)$/.exec(line);
    return match === null ? [] : [{ sha: match[1] ?? '', subject: (match[2] ?? '').slice(0, 500) }];
  });
  return { head, file: file === '' ? null : file, commits };
}

async function readOut(
  executor: Executor,
  ref: CallRef,
  file: string,
  maxBytes: number,
  target: { blobs: Blobs; organization: string },
): Promise<{ sha256: string; sizeBytes: number } | { message: string }> {
  const { session, fence } = ref;
  let refusal: string | null = null;
  // A generator, so that the bundle is never whole in memory; a refusal ends it, and the half blob is dropped.
  async function* bytes(): AsyncGenerator<Uint8Array> {
    for (let offset = 0; refusal === null; ) {
      const read = await executor.readFile({ session, fence, path: file, offset, maxBytes: CHUNK_BYTES });
      if (isRefusal(read)) refusal = read.message;
      else if (offset + read.data.length > maxBytes) refusal = `it is larger than ${maxBytes} bytes`;
      else if (read.data.length === 0) return;
      else {
        yield read.data;
        offset += read.data.length;
      }
    }
  }
  const put = await target.blobs.put(target.organization, bytes());
  const edits = [{ path: file, content: null }];
  // Best effort: what stays is a file in the session's own home, and a later run sweeps it.
  await executor.applyEdits({ session, fence, callId: `${ref.callId}.remove`, edits }).catch(() => {});
  if (refusal === null) return put;
  await target.blobs.delete(target.organization, put.sha256);
  return { message: refusal };
}

/** After the workspace state. $5: at most so many commits, $6: a name for the file. */
const bundleScript = `
max_commits=$5
out="\${HOME:-/tmp}/.scriptorium-delivery-$6.bundle"
rm -f "$out"
tab=$(printf '\\t')
mkdir "$own/put"
# The commit that stands for "$1" in the chain, if it was put on top of the base.
put_of() { if [ -f "$own/put/$1" ]; then cat "$own/put/$1"; fi; }

# "$1" with the base below it: its message, people and dates, other parents, and the tree it would have had.
put_on_base() {
  parents= moved=
  for parent in $(git rev-list --parents -n 1 "$1" | cut -s -d ' ' -f 2-); do
    new=$(put_of "$parent")
    [ "$parent" != "$head" ] || new=$base
    [ -z "$new" ] || moved=1
    parents="$parents -p \${new:-$parent}"
  done
  if [ -z "$parents" ] && [ -z "$head" ]; then parents="-p $base" moved=1; fi
  [ -n "$moved" ] || return 0
  git read-tree "$base"
  git diff-tree -r --raw --no-renames --no-abbrev "\${head:-$empty}" "$1" |
    sed "s/^:[0-7]* \\([0-7]*\\) [0-9a-f]* \\([0-9a-f]*\\) [A-Z]$tab/\\1 \\2$tab/" | git update-index --index-info
  commit_as "$1" "$(git write-tree)" $parents > "$own/put/$1"
}
say() { git -c i18n.logOutputEncoding=UTF-8 log -1 --no-show-signature --date=raw --format="$1" "$2"; }
or_unknown() { if [ -n "$1" ]; then printf '%s' "$1"; else printf unknown; fi; }
commit_as() (
  from=$1 its_tree=$2
  shift 2
  GIT_AUTHOR_NAME=$(or_unknown "$(say %an "$from")") GIT_AUTHOR_EMAIL=$(say %ae "$from") GIT_AUTHOR_DATE=$(say %ad "$from")
  GIT_COMMITTER_NAME=$(or_unknown "$(say %cn "$from")") GIT_COMMITTER_EMAIL=$(say %ce "$from") GIT_COMMITTER_DATE=$(say %cd "$from")
  export GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_AUTHOR_DATE GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL GIT_COMMITTER_DATE
  say %B "$from" | git commit-tree --no-gpg-sign "$its_tree" "$@"
)
commit_rest() (
  GIT_AUTHOR_NAME='Scriptorium agent' GIT_AUTHOR_EMAIL=agent@scriptorium.invalid GIT_AUTHOR_DATE=$(say %cd "$1")
  GIT_COMMITTER_NAME=Scriptorium GIT_COMMITTER_EMAIL=scriptorium@localhost.invalid GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE
  export GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_AUTHOR_DATE GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL GIT_COMMITTER_DATE
  git commit-tree --no-gpg-sign "$tree" -p "$1" -m 'Work the agent left uncommitted'
)

last=\${tip:-$base}
if [ "$base" != "$head" ]; then
  export GIT_INDEX_FILE="$own/rebuild-index"
  if [ -n "$tip" ]; then
    # shellcheck disable=SC2086
    git rev-list --reverse --topo-order "$tip" \${head:+"^$head"} > "$own/commits"
    [ "$(wc -l < "$own/commits")" -le "$max_commits" ] || { echo "more than $max_commits commits" >&2; exit 1; }
    while read -r commit; do put_on_base "$commit"; done < "$own/commits"
    new=$(put_of "$tip")
    if [ -n "$new" ]; then last=$new
    elif [ -n "$head" ] && git merge-base --is-ancestor "$tip" "$head"; then last=$base; fi
  fi
elif [ -n "$head" ] && git merge-base --is-ancestor "$last" "$head"; then
  # Gone back to an older commit: what is left of the work is told against where the user is.
  last=$head
fi
if [ "$(git rev-parse "$last^{tree}")" != "$tree" ]; then
  last=$(commit_rest "$last")
fi
if [ "$last" = "$base" ]; then printf '%s\\000\\000' "$last"; exit 0; fi
git update-ref ${deliveryRef} "$last"
git bundle create --quiet "$out" ${deliveryRef} \${head:+"^$head"}
printf '%s\\000%s\\000' "$last" "$out"
git -c i18n.logOutputEncoding=UTF-8 log -z --reverse --topo-order --max-count="$max_commits" --format='%H %s' "$last" "^$base" \${head:+"^$head"}
`;
