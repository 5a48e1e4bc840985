import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

/** See cache-folder.d.mts. */
export function cacheFolder(environment = process.env) {
  if (environment.FERRY_CACHE) return resolve(environment.FERRY_CACHE);
  return join(environment.XDG_CACHE_HOME || join(homedir(), '.cache'), 'ferry');
}
