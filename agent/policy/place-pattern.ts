import { dockerHub, parseOciReference } from '../fetch/oci/reference.ts';
import { FetchError } from '../fetch/types.ts';
import { hostKey } from './host-key.ts';
import { type ModulePlace, readPlace } from './module-place.ts';

/** Which places a rule is for. Paths are compared by whole parts; hosts are host keys. */
export type PlacePattern =
  /** All that a host serves, by any scheme. */
  | { readonly kind: 'registry'; readonly host: string }
  /** One repository, any tag and digest. */
  | { readonly kind: 'repository'; readonly host: string; readonly segments: readonly string[] }
  /** Repositories that begin so; or one tag or digest of one repository. */
  | {
      readonly kind: 'oci';
      readonly host: string;
      readonly segments: readonly string[];
      readonly tag: string | undefined;
      readonly digest: string | undefined;
    }
  /** Web URLs that begin so. `any` is both schemes. */
  | {
      readonly kind: 'web';
      readonly scheme: 'http' | 'https' | 'any';
      readonly host: string;
      readonly segments: readonly string[];
    };

/** The keys of a rule that say which places it is for. */
export const patternKeys = ['url', 'registry', 'repository'] as const;
export type PatternKey = (typeof patternKeys)[number];

export type PatternReading =
  | { readonly kind: 'pattern'; readonly pattern: PlacePattern }
  /** What is wrong and what to write; continues the quoted value. */
  | { readonly kind: 'rejected'; readonly problem: string };

/** Reads the value of `url`, `registry` or `repository` of a rule. */
export function readPattern(key: PatternKey, text: string): PatternReading {
  switch (key) {
    case 'registry': {
      const host = hostKey(text);
      if (host === undefined) return rejected('is no host; write host or host:port, without a scheme');
      return { kind: 'pattern', pattern: { kind: 'registry', host } };
    }
    case 'repository': {
      if (text.includes('://')) return rejected('has a scheme; write registry/repository');
      const reading = readOciPattern(text);
      if (reading.kind === 'rejected' || reading.pattern.kind !== 'oci') return reading;
      const { host, segments, tag, digest } = reading.pattern;
      if (text.endsWith('/'))
        return rejected('ends with "/"; remove it, or use "url" for all that begins so');
      if (segments.length === 0) return rejected('names no repository; for all of a registry use "registry"');
      if (tag !== undefined || digest !== undefined) {
        return rejected('has a tag or digest; leave it out, or use "url" with oci:// for one tag');
      }
      return { kind: 'pattern', pattern: { kind: 'repository', host, segments } };
    }
    case 'url':
      return readUrlPattern(text);
    default:
      return key satisfies never;
  }
}

function readUrlPattern(text: string): PatternReading {
  const [, scheme = '', rest = ''] = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/is.exec(text) ?? [];
  if (/[?#]/.test(rest))
    return rejected('has a query or fragment; rules look at host and path only: remove it');
  switch (scheme.toLowerCase()) {
    case 'oci':
      return readOciPattern(rest);
    case 'http':
    case 'https': {
      if (/^[^/\\]*@/.test(rest)) {
        return rejected('holds user info; remove it: credentials belong into a credentials file');
      }
      const reading = readPlace(text);
      if (reading.kind === 'unreadable') return rejected(reading.reason);
      const { host, segments } = reading.place;
      const web = scheme.toLowerCase() === 'https' ? 'https' : 'http';
      return { kind: 'pattern', pattern: { kind: 'web', scheme: web, host, segments } };
    }
    default:
      return rejected('must begin with oci://, https:// or http://');
  }
}

function readOciPattern(text: string): PatternReading {
  const slash = text.indexOf('/');
  const registry = slash === -1 ? text : text.slice(0, slash);
  const path = slash === -1 ? '' : text.slice(slash + 1).replace(/\/$/, '');
  if (registry.includes('@')) {
    return rejected('holds user info; remove it: credentials belong into a credentials file');
  }
  const host = hostKey(registry);
  if (host === undefined || !/[.:]/.test(registry)) {
    return rejected(
      'does not name its registry; begin with a host that has a "." or ":", for Docker Hub with docker.io/',
    );
  }
  if (path === '') {
    return {
      kind: 'pattern',
      pattern: { kind: 'oci', host, segments: [], tag: undefined, digest: undefined },
    };
  }
  try {
    const { repository, tag, digest } = parseOciReference(`${registry}/${path}`);
    const isTagged = /:[^/]*$/.test(path.replace(/@.*$/, ''));
    const segments = path
      .replace(/@.*$/, '')
      .replace(/:[^/]*$/, '')
      .split('/');
    if (host === dockerHub && segments.length === 1 && !text.endsWith('/')) {
      return rejected(
        `can mean two things on Docker Hub; write ${registry}/library/${segments[0] ?? repository} for the official image, or ${registry}/${segments[0] ?? repository}/ for all of a user`,
      );
    }
    if (text.endsWith('/') && (isTagged || digest !== undefined)) {
      return rejected('has a "/" after a tag or digest; remove it');
    }
    const onlyTag = isTagged && digest === undefined ? tag : undefined;
    return { kind: 'pattern', pattern: { kind: 'oci', host, segments, tag: onlyTag, digest } };
  } catch (error) {
    if (!(error instanceof FetchError)) throw error;
    return rejected(
      'is no image reference; write registry/repository in lower case, with :tag or @sha256:<64 hex digits> for one image only',
    );
  }
}

function rejected(problem: string): PatternReading {
  return { kind: 'rejected', problem };
}

/** The pattern of a rule that denies: what is denied under https is not to be had under http, and the other way. */
export function forAnyWebScheme(pattern: PlacePattern): PlacePattern {
  return pattern.kind === 'web' ? { ...pattern, scheme: 'any' } : pattern;
}

/** True when the pattern is for this place. */
export function matchesPlace(pattern: PlacePattern, place: ModulePlace): boolean {
  if (pattern.host !== place.host) return false;
  switch (pattern.kind) {
    case 'registry':
      return true;
    case 'repository':
      return place.repository !== undefined && isSame(pattern.segments, place.repository);
    case 'oci': {
      if (place.repository === undefined) return false;
      if (pattern.tag === undefined && pattern.digest === undefined) {
        return startsWith(place.repository, pattern.segments);
      }
      if (place.scheme !== 'oci' || !isSame(pattern.segments, place.segments)) return false;
      return pattern.digest === undefined ? pattern.tag === place.tag : pattern.digest === place.digest;
    }
    case 'web':
      if (place.scheme === 'oci') return false;
      if (pattern.scheme !== place.scheme && pattern.scheme !== 'any') return false;
      return startsWith(place.segments, pattern.segments);
    default:
      return pattern satisfies never;
  }
}

/** True when every place of `narrow` is one of `wide`: a rule for `narrow` after one for `wide` never counts. */
export function coversPattern(wide: PlacePattern, narrow: PlacePattern): boolean {
  if (wide.host !== narrow.host) return false;
  switch (wide.kind) {
    case 'registry':
      return true;
    case 'repository':
      return (
        (narrow.kind === 'repository' || (narrow.kind === 'oci' && isOneImage(narrow))) &&
        isSame(wide.segments, narrow.segments)
      );
    case 'oci':
      if (isOneImage(wide)) {
        return (
          narrow.kind === 'oci' &&
          narrow.tag === wide.tag &&
          narrow.digest === wide.digest &&
          isSame(wide.segments, narrow.segments)
        );
      }
      return (
        (narrow.kind === 'oci' || narrow.kind === 'repository') && startsWith(narrow.segments, wide.segments)
      );
    case 'web':
      return (
        narrow.kind === 'web' &&
        (narrow.scheme === wide.scheme || wide.scheme === 'any') &&
        startsWith(narrow.segments, wide.segments)
      );
    default:
      return wide satisfies never;
  }
}

/** True for a pattern of one tag or one digest. */
export function isOneImage(pattern: PlacePattern): boolean {
  return pattern.kind === 'oci' && (pattern.tag !== undefined || pattern.digest !== undefined);
}

function isSame(left: readonly string[], right: readonly string[]): boolean {
  return left.length === right.length && startsWith(left, right);
}

function startsWith(whole: readonly string[], start: readonly string[]): boolean {
  return start.length <= whole.length && start.every((segment, index) => segment === whole[index]);
}
