/**
 * Whether a folder can be made and written, found out without making anything: a recursive mkdir below /proc never
 * returns, and one below a file says little.
 */
import { accessSync, constants, lstatSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { Refused } from './ending.ts';

const kernelFolders = ['/proc', '/sys'];

/** The folder, or the nearest thing above it that is there. A link that leads nowhere is there. */
function nearestOf(folder: string): string {
  try {
    lstatSync(folder);
    return folder;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const isAbove = code === 'ENOENT' || code === 'ENOTDIR';
    if (!isAbove || path.dirname(folder) === folder) throw error;
    return nearestOf(path.dirname(folder));
  }
}

/** Why a server cannot keep its data there; null where it can. */
export function folderProblem(folder: string): string | null {
  try {
    const nearest = nearestOf(path.resolve(folder));
    const real = realpathSync(nearest);
    if (kernelFolders.some((place) => real === place || real.startsWith(`${place}/`)))
      return `${real} belongs to the kernel`;
    if (!statSync(real).isDirectory()) return `${nearest} is not a folder`;
    accessSync(real, constants.W_OK | constants.X_OK);
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

export function checkFolder(folder: string, option = '--data-dir'): void {
  const problem = folderProblem(folder);
  if (problem !== null)
    throw new Refused(`${folder} cannot be used: ${problem}`, { hint: `choose another with ${option}` });
}
