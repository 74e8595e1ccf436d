/** Rows that end on the user's side: a hostile workspace is shown and taken home (S3). */
import type { ScriptRow } from '../row.ts';

const commit = 'git -c user.name=m -c user.email=m@m.example commit -q';
/** A tree is written as bytes, since no git command would make this one. */
const plantTree = (entry: string): string =>
  [
    'need git perl; blob=$(echo owned | git hash-object -w --stdin)',
    `tree=$(perl -e 'print "${entry}\\0", pack("H*", shift)' "$blob" | git hash-object -t tree -w --literally --stdin)`,
    'commit=$(git -c user.name=m -c user.email=m@m.example commit-tree -p HEAD -m planted "$tree")',
    'git update-ref refs/heads/main "$commit"; echo planted',
  ].join('; ');

export const homewardRows: readonly ScriptRow[] = [
  {
    id: 'git.configuration',
    title: 'configuration, hooks, filters and attributes that run commands run none on the host',
    promises: ['S3'],
    room: 'repository',
    calls: [
      [
        'need git; t() { echo "touch $OUTSIDE/$NONCE.$1"; }; git config core.fsmonitor "$(t fsmonitor)"',
        'git config core.pager "$(t pager)"; git config diff.external "$(t external)"; git config core.sshCommand "$(t ssh)"',
        'git config diff.x.textconv "$(t textconv)"; git config filter.x.clean "$(t clean)"; git config filter.x.smudge "$(t smudge)"',
        'mkdir -p h .git/hooks; git config core.hooksPath h; for h in pre-commit post-checkout post-merge reference-transaction post-rewrite; do (echo "#!/bin/sh"; t $h) > h/$h; cp h/$h .git/hooks/$h; done; chmod +x h/* .git/hooks/*',
        'echo "* diff=x filter=x" > .gitattributes; git config include.path "$OUTSIDE/secret"; echo changed >> README',
        `GIT_CONFIG_GLOBAL=/dev/null git -c core.fsmonitor= -c core.hooksPath=/dev/null add -A 2>&1 | tail -1; echo end`,
      ].join('\n'),
    ],
    refusal: /end[\s\S]*refs\/heads\/scriptorium\//,
  },
  {
    id: 'git.tree-above',
    title: 'a tree with an entry above the repository is not taken home',
    promises: ['S3'],
    room: 'repository',
    calls: [plantTree('100644 ../../planted')],
    refusal: /planted[\s\S]*fullPathname/,
    never: /refs\/heads\/scriptorium/,
  },
  {
    id: 'git.tree-dot-git',
    title: 'a tree that writes into .git is not taken home',
    promises: ['S3'],
    room: 'repository',
    calls: [plantTree('100644 .GIT')],
    refusal: /planted[\s\S]*hasDotgit/,
    never: /refs\/heads\/scriptorium/,
  },
  {
    id: 'git.link-out',
    title: 'a link that leads out of the repository is not taken home',
    promises: ['S3'],
    room: 'repository',
    calls: [
      `need git; ln -s ../../../../../../etc/passwd link; ln -s "$OUTSIDE/secret" other; git add -A && ${commit} -m links && echo planted`,
    ],
    refusal: /planted[\s\S]*leads out of the repository/,
    never: /refs\/heads\/scriptorium/,
  },
];
