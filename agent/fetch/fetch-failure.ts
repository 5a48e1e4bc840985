import type { Sha256 } from '../../cache/types.ts';
import { describeDigests } from './pin.ts';
import { FetchError, type ModuleDigests } from './types.ts';

/** The module has none of the digests that were asked for. `more` says why what was served is no module at all. */
export function checksumMismatch(
  display: string,
  got: Sha256,
  want: Sha256,
  digests: ModuleDigests,
  more?: string,
): FetchError {
  const why = more === undefined ? '' : `; what was served is no module: ${more}`;
  return new FetchError(
    'checksum_mismatched',
    `module downloaded from ${display} has checksum ${got}, which does not match: ${want} (digests that would match: ${describeDigests(digests)})${why}`,
    { result: 'checksum_mismatched' },
  );
}

/** What was served is no Wasm module. */
export function invalidModule(display: string, error: FetchError): FetchError {
  return new FetchError(error.code, `fetched Wasm binary from ${display} is invalid: ${error.message}`, {
    cause: error,
    result: 'fetch_failure',
  });
}
