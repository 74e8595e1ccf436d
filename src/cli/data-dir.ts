/** Where a server keeps its data when nobody says where. */
import { homedir } from 'node:os';
import path from 'node:path';

export function defaultDataDir(env: NodeJS.ProcessEnv = process.env, uid = process.getuid?.()): string {
  if (env.SCRIPTORIUM_DATA_DIR) return path.resolve(env.SCRIPTORIUM_DATA_DIR);
  if (uid === 0) return '/var/lib/scriptorium';
  const base =
    env.XDG_DATA_HOME && path.isAbsolute(env.XDG_DATA_HOME)
      ? env.XDG_DATA_HOME
      : path.join(env.HOME || homedir(), '.local', 'share');
  return path.join(base, 'scriptorium');
}
