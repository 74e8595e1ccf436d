/**
 * Lays the user's repository out in the workspace, inside the sandbox: the branch at the commit it was at, and the
 * working tree as it was, with everything uncommitted still uncommitted (the index is HEAD's).
 *
 * Promises kept here
 * - S3: git runs in the sandbox, on a bundle among the session's read-only uploads.
 * - Interrupted anywhere, the next run starts over; laid out completely, the next run changes nothing.
 * - A workspace that holds anything else is left alone, and the call says so.
 * - `refs/scriptorium/base` names the working tree as the user had it: what is delivered is told against it.
 */
import type { CallRef, Executor } from '../sandbox/executor.ts';
import { sandboxPaths } from '../sandbox/executor.ts';
import type { RepositoryPin } from '../session/events.ts';
import { runScript } from './in-sandbox.ts';

export type Layout =
  | {
      ok: true;
      /** The commit whose tree is the working tree at the start; equal to `head` where nothing was uncommitted. */
      baseCommit: string;
      head: string | null;
      branch: string | null;
      /** How many paths differ from HEAD. */
      uncommittedPaths: number;
    }
  | { ok: false; message: string };

const TIMEOUT_MS = 15 * 60_000;

export async function layoutRepository(
  executor: Executor,
  ref: CallRef,
  pin: RepositoryPin,
  options: { signal?: AbortSignal } = {},
): Promise<Layout> {
  const outcome = await runScript(executor, ref, {
    script: layoutScript,
    args: [pin.mountPath, uploadPath(pin), pin.snapshotRef, pin.head ?? '', pin.branch ?? ''],
    cwd: '/',
    timeoutMs: TIMEOUT_MS,
    maxOutputBytes: 64 * 1024,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  if (!outcome.ok) return { ok: false, message: outcome.message };
  const [baseCommit = '', changed = '0'] = outcome.stdout.toString('utf8').trim().split(' ');
  if (!/^[0-9a-f]{40,64}$/.test(baseCommit)) return { ok: false, message: 'the sandbox gave no commit' };
  return {
    ok: true,
    baseCommit,
    head: pin.head,
    branch: pin.branch,
    uncommittedPaths: Number.parseInt(changed, 10) || 0,
  };
}

/** Where the bundle lies inside. The name was checked at the door; a slash in it would still stay below uploads. */
export function uploadPath(pin: RepositoryPin): string {
  return `${sandboxPaths.uploads}/${pin.upload}`;
}

/**
 * $1 workspace, $2 bundle, $3 ref of the snapshot, $4 head or '', $5 branch or ''.
 * `.git/scriptorium-unfinished` stands from before the first file until after the last one.
 */
const layoutScript = `
workspace=$1 bundle=$2 snapshot_ref=$3 head=$4 branch=$5
if ! [ -f "$bundle" ]; then echo "no upload at $bundle" >&2; exit 1; fi
mkdir -p "$workspace"
cd "$workspace"
heads=$(git bundle list-heads "$bundle")
sha_of() {
  printf '%s\\n' "$heads" | while read -r sha ref; do
    if [ "$ref" = "$1" ]; then printf '%s' "$sha"; break; fi
  done
}
base=$(sha_of "$snapshot_ref")
[ -n "$base" ] || { echo "the bundle has no $snapshot_ref" >&2; exit 1; }

report() {
  changed=$(git status --porcelain --untracked-files=all | wc -l)
  echo "$base" $changed
}
entries=$(ls -A .)
if [ -n "$entries" ]; then
  if [ -e .git/scriptorium-unfinished ] || { [ "$entries" = .git ] && [ -z "$(ls -A .git)" ]; }; then
    find . -mindepth 1 -maxdepth 1 ! -name .git -exec rm -rf {} +
    rm -rf .git
  elif [ "$(git rev-parse --verify --quiet refs/scriptorium/base 2>/dev/null || true)" = "$base" ]; then
    report
    exit 0
  else
    echo "$workspace is not empty and is not this repository" >&2
    exit 1
  fi
fi

mkdir .git
: > .git/scriptorium-unfinished
format=sha1
[ \${#base} -eq 40 ] || format=sha256
git init --quiet --template= --object-format=$format -b "\${branch:-main}" .
git config user.name 'Scriptorium agent'
git config user.email agent@scriptorium.invalid
git config gc.auto 0
git config log.excludeDecoration 'refs/scriptorium/*'
mkdir -p .git/info
git bundle unbundle "$bundle" >/dev/null
shallow=$(sha_of refs/scriptorium/shallow)
if [ -n "$shallow" ]; then git cat-file blob "$shallow" > .git/shallow; fi
if [ -n "$head" ]; then
  git cat-file -e "$head^{commit}"
  if [ -n "$branch" ]; then git update-ref "refs/heads/$branch" "$head"
  else git update-ref --no-deref HEAD "$head"; fi
fi
git read-tree --reset -u "$base"
if [ -n "$head" ]; then git read-tree -m HEAD; else git read-tree --empty; fi
git update-index -q --refresh >/dev/null || true
git update-ref refs/scriptorium/base "$base"
rm -f .git/scriptorium-unfinished
report
`;
