/** Fields of a log line. The cache has no secrets to hide: digests, paths and sizes only. */
export type CacheLogFields = Readonly<Record<string, string | number | boolean | undefined>>;

/** Where the cache reports what it repaired or could not do. The agent's `Logger` fits. */
export interface CacheLog {
  debug(message: string, fields?: CacheLogFields): void;
  info(message: string, fields?: CacheLogFields): void;
  warn(message: string, fields?: CacheLogFields): void;
}
