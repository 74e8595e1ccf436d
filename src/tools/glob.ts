/** The glob tool: files by name, newest first. `pure`; the walk happens in the sandbox, the matching here. */
import { posix } from 'node:path';
import { z } from 'zod';
import type { FileStat } from '../sandbox/executor.ts';
import { isRefusal } from '../sandbox/executor.ts';
import type { Glob } from './glob-pattern.ts';
import { compileGlob, maxPatternChars } from './glob-pattern.ts';
import { failed, refused, succeeded } from './outcome.ts';
import { pathInput, resolvePath } from './path.ts';
import type { Tool, ToolContext, ToolOutcome } from './tool.ts';

const maxPaths = 200;
const maxEntries = 50_000;
const maxDepth = 64;
const skipDirectories = ['.git', 'node_modules'];

const inputSchema = z.strictObject({
  pattern: z
    .string()
    .min(1)
    .max(maxPatternChars)
    .describe(
      'A relative pattern with *, ?, [...], {a,b} and ** for directories, for example "src/**/*.{ts,tsx}".',
    ),
  path: pathInput('The directory to search; without it the working directory.').optional(),
});

type GlobInput = z.infer<typeof inputSchema>;

async function run(input: GlobInput, context: ToolContext): Promise<ToolOutcome> {
  const { pattern, path = '.' } = input;
  if (pattern.startsWith('/')) return failed('The pattern must be relative. Give the directory in path.');
  if (pattern.split(/[/{},]/).includes('..'))
    return failed("'..' is not allowed in the pattern. Give the directory in path.");
  const compiled = compileGlob(pattern.replace(/^(?:\.\/)+/, ''));
  if (!compiled.ok) return failed(compiled.message);
  const root = resolvePath(context.cwd, path);
  const { session, fence, executor } = context;
  const walked = await executor.walk({ session, fence, path: root, skipDirectories, maxEntries, maxDepth });
  if (isRefusal(walked)) return refused(walked, path);
  const found = newestFirst(walked.entries, root, compiled.glob);
  if (compiled.glob.isExhausted)
    return failed('The pattern takes too much work on so many files. Use a simpler one.');
  const notes: string[] = [];
  if (found.length > maxPaths) notes.push(`[the newest ${maxPaths} of ${found.length} matches]`);
  if (!walked.isWhole) notes.push(`[only ${maxEntries} entries were looked at; search a smaller directory]`);
  const paths = found.slice(0, maxPaths).map((entry) => entry.path);
  return succeeded([...(paths.length > 0 ? paths : ['no matches']), ...notes].join('\n'), {
    matches: found.length,
  });
}

/** Files and links; equal times in the order of their names, so that the answer is the same every time. */
function newestFirst(entries: FileStat[], root: string, glob: Glob): FileStat[] {
  const isMatch = (entry: FileStat): boolean =>
    (entry.type === 'file' || entry.type === 'symlink') && glob.matches(posix.relative(root, entry.path));
  return entries.filter(isMatch).sort((a, b) => b.mtimeMs - a.mtimeMs || (a.path < b.path ? -1 : 1));
}

export const glob: Tool<GlobInput> = {
  name: 'glob',
  description: [
    'Find files by name pattern. Returns absolute paths, newest first, at most 200.',
    '.git and node_modules are skipped. A pattern without ** looks only where it says.',
  ].join(' '),
  input: inputSchema,
  effect: 'pure',
  run,
};
