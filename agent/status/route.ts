import type { IncomingMessage } from 'node:http';
import type { Answer } from './answer.ts';

/** One request that has found its route. */
export interface Exchange {
  readonly request: IncomingMessage;
  /** Decoded and clean. */
  readonly path: string;
  /** As sent, without the question mark; empty when there is none. */
  readonly rawQuery: string;
  readonly answer: Answer;
}

/**
 * One row of the endpoint table. Refusals come in this order: `localOnly` (403), then `method` (405).
 * A handler ends the answer; what it throws becomes a 500, or a broken connection when bytes have left.
 */
export interface Route {
  /** Exact; or, with a slash at the end, everything below it. The longest match wins. */
  readonly path: string;
  /** Refused unless the TCP peer is on this machine. */
  readonly localOnly: boolean;
  /** Undefined: any method. */
  readonly method: 'POST' | undefined;
  readonly handle: (exchange: Exchange) => Promise<void>;
}

/** What a request target leads to. */
export type Target =
  | { readonly kind: 'path'; readonly path: string; readonly rawQuery: string }
  /** The clean form of a path with `//` or dots, to send the client to. */
  | { readonly kind: 'redirect'; readonly location: string }
  /** No path, or a broken escape in it. */
  | { readonly kind: 'bad' };

/**
 * Reads a request target as Go's `net/http` does: origin or absolute form, escapes decoded segment by segment,
 * unclean paths redirected (`ServeMux`, `cleanPath`).
 */
export function parseTarget(url: string): Target {
  const origin = /^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i.exec(url)?.[0] ?? '';
  const [rawPath = '', ...queryParts] = url.slice(origin.length).split('?');
  const rawQuery = queryParts.join('?');
  if (origin === '' && !rawPath.startsWith('/')) return { kind: 'bad' };
  const decoded = rawPath.split('/').map(decodeSegment);
  if (decoded.includes(undefined)) return { kind: 'bad' };
  const clean = cleanPath(rawPath);
  if (clean !== (rawPath === '' ? '/' : rawPath)) {
    return { kind: 'redirect', location: `${escapePath(clean)}${rawQuery === '' ? '' : `?${rawQuery}`}` };
  }
  return { kind: 'path', path: rawPath === '' ? '/' : decoded.join('/'), rawQuery };
}

/** The route of a clean path; undefined for none. */
export function findRoute(routes: readonly Route[], path: string): Route | undefined {
  return routes
    .filter((route) => (route.path.endsWith('/') ? path.startsWith(route.path) : path === route.path))
    .toSorted((left, right) => right.path.length - left.path.length)[0];
}

/** An escaped slash does not separate segments, so it never makes up a known path: it stays escaped. */
function decodeSegment(segment: string): string | undefined {
  try {
    return decodeURIComponent(segment).replaceAll('/', '%2F');
  } catch {
    return undefined;
  }
}

function cleanPath(path: string): string {
  const kept: string[] = [];
  for (const segment of path.split('/')) {
    if (segment === '..') kept.pop();
    else if (segment !== '' && segment !== '.') kept.push(segment);
  }
  return `/${kept.join('/')}${kept.length > 0 && path.endsWith('/') ? '/' : ''}`;
}

/** Keeps a backslash, which browsers read as a slash, from making another host of the location. */
function escapePath(path: string): string {
  return path.replaceAll(/[^\w\-.~!$&'()*+,;=:@/%]/g, (character) => encodeURIComponent(character));
}
