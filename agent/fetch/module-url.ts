import { type OciReference, parseOciReference } from './oci/reference.ts';
import { FetchError } from './types.ts';

/** What a module URL names. */
export type ModuleUrl =
  | { readonly kind: 'http'; readonly url: string; readonly display: string }
  | { readonly kind: 'oci'; readonly reference: OciReference; readonly display: string };

/** A URL without user info, query and fragment, for messages and records: those parts may hold secrets. */
export function displayUrl(url: string): string {
  const withoutQuery = url.replace(/[?#].*$/s, '');
  // Where the user info ends is only sure in a good URL; in a bad one all up to the last "@" may be secret.
  const isSure = URL.canParse(url) && /^[a-z][a-z0-9+.-]*:\/\//i.test(url);
  // A digest stands at the end; a host may be named like the start of one.
  const userInfo = isSure
    ? /^([a-z][a-z0-9+.-]*:\/\/)[^/]*@(?!sha\d+:[^/@]*$)/i
    : /^([a-z][a-z0-9+.-]*:\/\/)?.*@(?!sha\d+:[^/@]*$)/is;
  const withoutUser = withoutQuery.replace(userInfo, '$1');
  return withoutUser.replaceAll(controlCharacters, '\u{fffd}');
}

/** The host part (`host` or `host:port`) of a URL as it was written. */
export function hostTextOf(url: string): string {
  const [, authority = ''] = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i.exec(url) ?? [];
  return authority.slice(authority.lastIndexOf('@') + 1);
}

// oxlint-disable-next-line no-control-regex
const controlCharacters = /[\u0000-\u001f\u007f]/g;

/**
 * Reads a module URL. Throws FetchError `unsupported_scheme`, or `bad_url`; the latter carries the result
 * `manifest_failure` when it is an OCI reference that cannot be read (istio/istio `pkg/wasm/cache.go`, `imagefetcher.go`).
 */
export function parseModuleUrl(text: string): ModuleUrl {
  const display = displayUrl(text);
  const badUrl = (reason: string): FetchError =>
    new FetchError('bad_url', `fail to parse Wasm module fetch url: ${display}, error: ${reason}`);
  if (text.search(controlCharacters) !== -1) throw badUrl('it holds a control character; remove it');
  const [, scheme = ''] = /^([a-z][a-z0-9+.-]*):/i.exec(text) ?? [];
  switch (scheme.toLowerCase()) {
    case 'http':
    case 'https': {
      if (!URL.canParse(text) || !/^https?:\/\/[^/?#]/i.test(text)) {
        throw badUrl('it is not an absolute URL; use https://host/path');
      }
      return { kind: 'http', url: text, display };
    }
    case 'oci': {
      const [, rest] = /^oci:\/\/([^?#]*)/i.exec(text) ?? [];
      if (rest === undefined)
        throw badUrl('"//" is missing after the scheme; use oci://registry/repository:tag');
      const slash = rest.indexOf('/');
      // Without a path, the last `@` may belong to a digest.
      const authority = slash === -1 ? rest.replace(/@sha\d+:[^@]*$/, '') : rest.slice(0, slash);
      const userEnd = authority.lastIndexOf('@');
      return { kind: 'oci', reference: parseOciReference(rest.slice(userEnd + 1)), display };
    }
    default:
      throw new FetchError(
        'unsupported_scheme',
        `unsupported Wasm module downloading URL scheme: ${scheme} (use oci://, https:// or http://)`,
      );
  }
}
