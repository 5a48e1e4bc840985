import { parseModuleUrl } from '../fetch/module-url.ts';
import { dockerHub } from '../fetch/oci/reference.ts';
import { FetchError } from '../fetch/types.ts';
import { hostKey, hostKeyOf } from './host-key.ts';

/** What a module URL names, in one spelling: two URLs that lead to the same place have the same. */
export interface ModulePlace {
  readonly scheme: 'oci' | 'http' | 'https';
  /** As `hostKey` makes it. */
  readonly host: string;
  /** The repository's parts, or the path's, decoded. A slash at the end makes no difference. */
  readonly segments: readonly string[];
  /** OCI without a digest: the tag, also an implied one. */
  readonly tag: string | undefined;
  /** OCI: hex SHA-256. */
  readonly digest: string | undefined;
  /** The repository that is read: OCI, and web URLs of a registry's own API (`/v2/<repository>/blobs/...`). */
  readonly repository: readonly string[] | undefined;
  /** Web: there is a query, which rules and mirrors do not look at. */
  readonly hasQuery: boolean;
}

export type PlaceReading =
  | { readonly kind: 'place'; readonly place: ModulePlace }
  /** `reason` continues "the URL ". */
  | { readonly kind: 'unreadable'; readonly reason: string };

/**
 * Reads a module URL with the parsers that the fetch itself uses, so that both mean the same place. Spellings that
 * servers read in different ways are unreadable: no rule could hold for them.
 */
export function readPlace(text: string): PlaceReading {
  try {
    const url = parseModuleUrl(text);
    switch (url.kind) {
      case 'http':
        return readWebPlace(new URL(url.url));
      case 'oci': {
        const { registry, repository, tag, digest } = url.reference;
        const host = hostKey(registry);
        if (host === undefined) return unreadable('names no usable registry host');
        const parts = repository.split('/');
        // Another name of Docker Hub does not bring the `library/` of its short names; the registry adds it.
        const segments = host === dockerHub && parts.length === 1 ? ['library', ...parts] : parts;
        const isByDigest = digest !== undefined;
        return {
          kind: 'place',
          place: {
            scheme: 'oci',
            host,
            segments,
            tag: isByDigest ? undefined : tag,
            digest,
            repository: segments,
            hasQuery: false,
          },
        };
      }
      default:
        return url satisfies never;
    }
  } catch (error) {
    if (!(error instanceof FetchError)) throw error;
    return unreadable('cannot be read (its scheme must be oci, https or http)');
  }
}

function readWebPlace(url: URL): PlaceReading {
  const host = hostKeyOf(url);
  if (host === undefined) return unreadable('has a host with an empty part');
  const segments: string[] = [];
  const raw = url.pathname.slice(1).replace(/\/$/, '');
  for (const part of raw === '' ? [] : raw.split('/')) {
    const segment = decodeSegment(part);
    if (segment === undefined) {
      return unreadable(
        `has a path that servers read in different ways (an empty part, an encoded slash, percent sign or control character, a ";"); write it plainly`,
      );
    }
    segments.push(segment);
  }
  return {
    kind: 'place',
    place: {
      scheme: url.protocol === 'https:' ? 'https' : 'http',
      host,
      segments,
      tag: undefined,
      digest: undefined,
      repository: apiRepository(host, segments),
      hasQuery: url.search !== '',
    },
  };
}

// oxlint-disable-next-line no-control-regex
const ambiguous = /[/\\%;\u0000-\u001f\u007f]/;

function decodeSegment(part: string): string | undefined {
  let segment: string;
  try {
    segment = decodeURIComponent(part);
  } catch {
    return undefined;
  }
  return segment === '' || segment === '.' || segment === '..' || ambiguous.test(segment)
    ? undefined
    : segment;
}

/** The distribution API serves the same bytes to anybody who asks by plain HTTP (distribution-spec, "Pull"). */
function apiRepository(host: string, segments: readonly string[]): readonly string[] | undefined {
  const kind = segments.at(-2);
  if (segments[0] !== 'v2' || segments.length < 4 || (kind !== 'blobs' && kind !== 'manifests'))
    return undefined;
  const repository = segments.slice(1, -2);
  return host === dockerHub && repository.length === 1 ? ['library', ...repository] : repository;
}

function unreadable(reason: string): PlaceReading {
  return { kind: 'unreadable', reason };
}
