import { dockerHub } from '../fetch/oci/reference.ts';
import type { ModulePlace } from './module-place.ts';
import { matchesPlace } from './place-pattern.ts';
import type { MirrorRule } from './policy-data.ts';

/** A URL where a mirror has the module. */
export interface MirrorTarget {
  readonly url: string;
  readonly timeoutMs: number;
  /** To be sent as `?ns=` with each request: the original registry, in containerd's words. */
  readonly namespace: string | undefined;
}

/**
 * Where the mirrors of the first rule for this place have the module, in order. Pure. Nothing for URLs with a query:
 * it may choose the file, and it may be a secret that is not the mirror's business.
 */
export function mirrorTargets(
  rules: readonly MirrorRule[],
  url: string,
  place: ModulePlace,
): readonly MirrorTarget[] {
  if (place.hasQuery || (place.scheme === 'oci' && /[?#]/.test(url))) return [];
  const rule = rules.find(({ from }) => isMirrored(from.kind, place) && matchesPlace(from, place));
  if (rule === undefined) return [];
  const start = rule.from.kind === 'registry' ? [] : rule.from.segments;
  const rest = place.segments.slice(start.length);
  return rule.endpoints.flatMap(({ url: base, timeoutMs, isNamespaceSent }) => {
    // A registry root holds no image of its own.
    if (rest.length === 0 && !/^[a-z]+:\/\/[^/]+\/./.test(base)) return [];
    const registry = place.host === dockerHub ? 'docker.io' : place.host;
    const path = [base, ...rest.map(encodeURIComponent)].join('/');
    const namespace = isNamespaceSent ? registry : undefined;
    return [{ url: `${path}${version(place)}`, timeoutMs, namespace }];
  });
}

/** Registry addresses are mirrored for images only, not for web URLs that happen to look like them. */
function isMirrored(kind: MirrorRule['from']['kind'], place: ModulePlace): boolean {
  return (kind === 'web') === (place.scheme !== 'oci');
}

function version({ scheme, tag, digest }: ModulePlace): string {
  if (scheme !== 'oci') return '';
  return digest === undefined ? `:${tag ?? 'latest'}` : `@sha256:${digest}`;
}
