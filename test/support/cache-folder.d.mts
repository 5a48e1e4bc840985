/**
 * Where tools and built fixtures are kept between runs: `FERRY_CACHE`, else `ferry` in `XDG_CACHE_HOME` or
 * `~/.cache`. Absolute; it may not exist yet.
 */
export function cacheFolder(environment?: NodeJS.ProcessEnv): string;
