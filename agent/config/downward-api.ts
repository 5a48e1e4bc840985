import { unquoteGo } from './go-values.ts';

export type DownwardFile =
  | { readonly kind: 'parsed'; readonly values: Readonly<Record<string, string>> }
  | { readonly kind: 'malformed'; readonly reason: string };

/**
 * A file of the Kubernetes downward API (pod labels or annotations): lines `key="go-quoted value"`. Lines without
 * `=` are skipped; a bad quote fails the whole file (istio/istio `pkg/bootstrap/config.go`, ParseDownwardAPI).
 */
export function parseDownwardFile(text: string): DownwardFile {
  const values: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const [index, line] of text.split('\n').entries()) {
    const separator = line.indexOf('=');
    if (separator === -1) continue;
    const value = unquoteGo(line.slice(separator + 1));
    if (value === undefined) {
      return {
        kind: 'malformed',
        reason: `line ${index + 1} (key ${JSON.stringify(line.slice(0, separator))}) is not key="quoted value"`,
      };
    }
    values[line.slice(0, separator)] = value;
  }
  return { kind: 'parsed', values };
}
