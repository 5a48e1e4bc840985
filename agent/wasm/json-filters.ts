import type * as JsonFilters from '../../proto/json-filter.ts';
import { asBuffer } from '../../proto/wire.ts';

let loaded: typeof JsonFilters | undefined;

/** Part of the type URLs of both kinds of TypedStruct. */
const structTypePart = '.TypedStruct';

/** True when a response may hold a filter in protobuf's JSON form and what reads those is not loaded. */
export function areJsonFiltersNeeded(response: Uint8Array): boolean {
  return loaded === undefined && asBuffer(response).includes(structTypePart);
}

/**
 * Loads the protobuf runtime that reads JSON: it takes longer to load than a plugin to convert, and istiod sends no such
 * filter of its own.
 */
export async function loadJsonFilters(): Promise<void> {
  loaded ??= await import('../../proto/json-filter.ts');
}

/** To be called behind `loadJsonFilters`. */
export function loadedJsonFilters(): typeof JsonFilters {
  if (loaded === undefined) throw new Error('filters in JSON form are read before their part is loaded');
  return loaded;
}
