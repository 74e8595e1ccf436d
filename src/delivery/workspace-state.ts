/**
 * The workspace as git objects, made inside the sandbox without touching the agent's repository: a git directory of
 * our own beside it borrows the agent's objects, copies its index for speed, and reads no configuration of its.
 */

/**
 * To be put before a script. Expects $1 workspace, $2 bundle, $3 base commit, $4 head or '' (unborn).
 * Leaves: `own` (our git directory; also in GIT_DIR), `tip` (commit the agent is at, '' for none), `tree` (the state
 * of the whole workspace: committed, uncommitted, untracked but not ignored).
 *
 * An agent that threw away `.git`, or base with it, loses its commits but not its work: the base is read again from
 * the uploads, and everything counts as uncommitted.
 */
export const workspaceStateScript = `
workspace=$1 bundle=$2 base=$3 head=$4
cd "$workspace"
# What a killed run left behind; younger ones may be in use right now.
find "\${HOME:-/tmp}" -maxdepth 1 -name '.scriptorium-*' -mmin +60 -exec rm -rf {} + 2>/dev/null || true
own=$(mktemp -d "\${HOME:-/tmp}/.scriptorium-XXXXXX")
trap 'rm -rf "$own"' EXIT
trap 'exit 1' HUP INT TERM
format=sha1
[ \${#base} -eq 40 ] || format=sha256
git init --quiet --bare --template= --object-format=$format "$own"
mkdir -p "$own/objects/info" "$own/info"
theirs=$(command git -c safe.directory='*' rev-parse --absolute-git-dir 2>/dev/null || true)
tip=
# A subshell, since what stands before a shell function may stay set after it.
in_store() (export GIT_DIR="$1"; shift; git "$@")
if [ -n "$theirs" ] && [ -d "$theirs/objects" ] && [ "$theirs" = "$(pwd -P)/.git" ] &&
  in_store "$theirs" cat-file -e "$base^{commit}" 2>/dev/null; then
  printf '%s\\n' "$theirs/objects" > "$own/objects/info/alternates"
  tip=$(in_store "$theirs" rev-parse --verify --quiet 'HEAD^{commit}' || true)
  if [ -f "$theirs/shallow" ]; then cp "$theirs/shallow" "$own/shallow"; fi
  if [ -f "$theirs/index" ]; then cp -p "$theirs/index" "$own/scriptorium-index"; fi
else
  in_store "$own" bundle unbundle "$bundle" >/dev/null
  shallow=$(git bundle list-heads "$bundle" | sed -n 's|^\\([0-9a-f]*\\) refs/scriptorium/shallow$|\\1|p' | head -n 1)
  if [ -n "$shallow" ]; then in_store "$own" cat-file blob "$shallow" > "$own/shallow"; fi
  tip=$head
fi
export GIT_DIR="$own" GIT_INDEX_FILE="$own/scriptorium-index"
# Our directory is bare for itself; with a work tree named it is not.
git config core.bare false
export GIT_WORK_TREE="$(pwd -P)"
empty=$(git hash-object -t tree -w /dev/null)
literal_add() (export GIT_LITERAL_PATHSPECS=1; git add --ignore-errors --pathspec-from-file="$1" >/dev/null 2>&1)
take_all() {
  # Bits that tell git not to look at a file would hide changes.
  if git ls-files -v | grep -q -e '^[a-z] ' -e '^S '; then return 1; fi
  git add --update -- . || return 1
  # Quoted names, one a line: a name that ends in a slash is a repository of its own and stays out.
  git ls-files --others --exclude-standard > "$own/untracked" || return 1
  grep -v -e '/$' -e '/"$' "$own/untracked" > "$own/files" || true
  [ -s "$own/files" ] || return 0
  git update-index --add --stdin < "$own/files" 2>/dev/null ||
    literal_add "$own/files" || true
}
# What the user had and never committed stays part of the work, also where the agent ignores it from now on.
take_brought() {
  [ "$base" != "$head" ] || return 0
  git diff-tree -r --no-renames --diff-filter=A --name-only "\${head:-$empty}" "$base" > "$own/brought"
  git update-index --add --remove --stdin < "$own/brought" 2>/dev/null || true
}
if ! take_all; then
  # The copied index may be anything the agent wrote; without it everything is read anew.
  rm -f "$GIT_INDEX_FILE"
  git read-tree "\${tip:-$empty}"
  take_all
fi
take_brought
tree=$(git write-tree)
`;
