/**
 * What a path in a tool's input means. Words only: nothing here looks at a disk, and links are the sandbox's business
 * (S3). `..` is taken away as text, as shells and editors do.
 */
import { posix } from 'node:path';
import { z } from 'zod';
import { sandboxPaths } from '../sandbox/executor.ts';

/** Linux refuses longer ones (PATH_MAX). */
const maxPathBytes = 4096;

export function pathInput(description: string): z.ZodString {
  return z
    .string()
    .min(1)
    .refine((path) => !path.includes('\0'), 'must not contain a NUL character')
    .refine((path) => Buffer.byteLength(path) < maxPathBytes, `must be shorter than ${maxPathBytes} bytes`)
    .describe(description);
}

export function resolvePath(cwd: string, path: string): string {
  const fromHome =
    path === '~' || path.startsWith('~/') ? posix.join(sandboxPaths.home, path.slice(1)) : path;
  return posix.resolve(cwd, fromHome);
}
