/** Resource name of the workload's own key and chain. */
export const workloadName = 'default';
/** Resource name of the roots that the workload trusts its peers by. */
export const workloadRootName = 'ROOTCA';

const systemRootName = 'file-root:system';
const pathSeparator = '~';

/** What a resource name of SDS stands for (`pkg/security/security.go`). */
export type SecretKind =
  | { readonly kind: 'workload' }
  | { readonly kind: 'workload-root' }
  /** The CA bundle of the operating system. */
  | { readonly kind: 'system-root' }
  | { readonly kind: 'file-root'; readonly path: string }
  | { readonly kind: 'file-key-pair'; readonly certificatePath: string; readonly keyPath: string }
  /** Starts like a name of files, but names none. */
  | { readonly kind: 'malformed'; readonly expected: string };

/** Any name that is not one of files stands for the workload's certificate, as in the stock agent. */
export function parseSecretName(name: string): SecretKind {
  if (name === workloadRootName) return { kind: 'workload-root' };
  if (name === systemRootName) return { kind: 'system-root' };
  if (name.startsWith('file-root:')) {
    const path = name.slice('file-root:'.length);
    if (isPath(path)) return { kind: 'file-root', path };
    return { kind: 'malformed', expected: 'file-root:<path>' };
  }
  if (name.startsWith('file-cert:')) {
    const [certificatePath = '', keyPath = '', ...rest] = name
      .slice('file-cert:'.length)
      .split(pathSeparator);
    if (rest.length === 0 && isPath(certificatePath) && isPath(keyPath)) {
      return { kind: 'file-key-pair', certificatePath, keyPath };
    }
    return { kind: 'malformed', expected: 'file-cert:<certificate path>~<key path>' };
  }
  return { kind: 'workload' };
}

/** Node refuses a path with a zero byte; `~` separates paths and cannot be part of one. */
function isPath(text: string): boolean {
  return text !== '' && !text.includes(pathSeparator) && !text.includes('\0');
}
