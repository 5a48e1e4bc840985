import { FetchError, type FetchErrorCode } from './types.ts';

/** Failures that say nothing about whether the module is still good: nobody answered, or not with what was asked. */
const unansweredCodes: readonly FetchErrorCode[] = [
  'network',
  'tls',
  'timeout',
  'http_status',
  'redirect',
  'digest_mismatch',
];

/**
 * Whether a module that was good `ageMs` ago may stand in for one that could not be fetched. Never after a refusal:
 * who may not read it any more, or pins another, does not get the old one. Pure.
 */
export function mayServeStale(
  error: unknown,
  ageMs: number,
  staleIfErrorMs: number | undefined,
): error is FetchError {
  if (staleIfErrorMs === undefined || ageMs > staleIfErrorMs) return false;
  return error instanceof FetchError && unansweredCodes.includes(error.code);
}
