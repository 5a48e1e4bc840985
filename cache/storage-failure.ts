import { CacheError, type CacheErrorCode } from './types.ts';

/** The system's name of a failure (`ENOSPC`), or undefined when the value is not a system error. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** True when deleting other files of the volume can make the same call succeed. */
export function isDiskFull(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === 'ENOSPC' || errno === 'EDQUOT';
}

/**
 * Turns a failed file operation into a CacheError that says what was tried, on what, what was seen and what to do.
 * A CacheError passes as it is. `doing` is a verb phrase: "write", "create the folder".
 */
export function storageFailure(error: unknown, doing: string, path: string): CacheError {
  if (error instanceof CacheError) return error;
  const errno = errnoOf(error);
  const { code, advice } = judge(errno);
  const seen = errno ?? (error instanceof Error ? error.message : String(error));
  return new CacheError(code, `cannot ${doing} ${path}: ${seen}; ${advice}`, { cause: error });
}

function judge(errno: string | undefined): { readonly code: CacheErrorCode; readonly advice: string } {
  switch (errno) {
    case 'ENOSPC':
      return {
        code: 'no_space',
        advice:
          'the volume is full and no unused module is left to delete: free space or give it a larger one',
      };
    case 'EDQUOT':
      return { code: 'no_space', advice: 'the disk quota is used up: free space or raise the quota' };
    case 'EFBIG':
      return {
        code: 'no_space',
        advice: 'the file is over the size limit of the process or volume: raise it (ulimit -f)',
      };
    case 'EROFS':
      return {
        code: 'read_only',
        advice: 'the file system is read-only: mount a writable volume there',
      };
    case 'EACCES':
    case 'EPERM':
      return {
        code: 'read_only',
        advice: `uid ${process.getuid?.() ?? '?'} has no permission: check owner and mode of the folder`,
      };
    case 'ENOTDIR':
    case 'EISDIR':
    case 'ENOTEMPTY':
    case 'ELOOP':
      return { code: 'io', advice: 'something else is at that path: remove it' };
    case 'EMFILE':
    case 'ENFILE':
      return { code: 'io', advice: 'too many files are open: raise the limit (ulimit -n)' };
    default:
      return { code: 'io', advice: 'check the volume it is on' };
  }
}
