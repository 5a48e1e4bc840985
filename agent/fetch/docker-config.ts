import { dockerHub } from './oci/reference.ts';
import { FetchError } from './types.ts';

/** How to authenticate at a registry. All but `anonymous` hold secrets: never logged, never stored. */
export type RegistryCredential =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  /** OAuth refresh token, for the token server. `username` is for servers that take it as a password only. */
  | { readonly kind: 'identity-token'; readonly token: string; readonly username?: string }
  /** Used as bearer token as it is. */
  | { readonly kind: 'registry-token'; readonly token: string }
  /** What a helper program has, which is asked when the registry asks. Holds no secret. */
  | ({ readonly kind: 'helper' } & HelperChoice);

/** A credential in hand. */
export type GivenCredential = Exclude<RegistryCredential, { kind: 'helper' }>;

/** One entry of `auths` as it was read; nothing in it is checked yet. */
type AuthEntry = Readonly<Record<string, unknown>>;

/** A docker config JSON: the entries of its `auths`, in document order. Holds secrets. */
export interface DockerConfig {
  /** Names the config in errors, for example `the image pull secret`. */
  readonly label: string;
  readonly auths: ReadonlyMap<string, AuthEntry>;
  /** `credHelpers`: names of helper programs by host. Not checked yet. */
  readonly helpers: ReadonlyMap<string, string>;
  /** `credsStore`: the helper for all other hosts. */
  readonly store: string | undefined;
}

/** A helper program that a config names for a registry. */
export interface HelperChoice {
  readonly helper: string;
  /** What it is asked for. */
  readonly server: string;
}

/** Under which keys Docker Hub's credentials are found, best first. */
const hubKeys = [`https://${dockerHub}/v1/`, dockerHub, 'docker.io', 'registry-1.docker.io'];

/**
 * Reads a docker config JSON. Throws FetchError `bad_pull_secret` that says what is wrong, never what the text is.
 * Other fields than `auths`, `credHelpers` and `credsStore` are ignored.
 */
export function parseDockerConfig(text: string, label: string): DockerConfig {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // The parser's own message quotes the text.
    throw badConfig(label, `is not JSON (${text.length} characters)`);
  }
  if (json === null) throw badConfig(label, 'is the JSON text null, it holds no credentials');
  if (!isRecord(json))
    throw badConfig(label, `is a JSON ${Array.isArray(json) ? 'array' : typeof json}, not an object`);
  const auths = json['auths'] ?? {};
  if (!isRecord(auths)) throw badConfig(label, 'has a field "auths" that is not an object');
  const entries = Object.entries(auths).map(([key, entry]): [string, AuthEntry] => {
    if (!isRecord(entry))
      throw badConfig(label, `has an entry for ${JSON.stringify(key)} that is not an object`);
    return [key, entry];
  });
  const credHelpers = json['credHelpers'] ?? {};
  if (!isRecord(credHelpers)) throw badConfig(label, 'has a field "credHelpers" that is not an object');
  const helpers = Object.entries(credHelpers).map(([host, helper]): [string, string] => {
    if (typeof helper === 'string') return [host, helper];
    throw badConfig(label, `has an entry for ${JSON.stringify(host)} in "credHelpers" that is not a text`);
  });
  const store = json['credsStore'] ?? '';
  if (typeof store !== 'string') throw badConfig(label, 'has a field "credsStore" that is not a text');
  return {
    label,
    auths: new Map(entries),
    helpers: new Map(helpers),
    store: store === '' ? undefined : store,
  };
}

/** True when a config names helper programs. */
export function hasHelpers(config: DockerConfig): boolean {
  return config.helpers.size > 0 || config.store !== undefined;
}

/**
 * The helper program of a config for one registry: its own in `credHelpers`, else `credsStore`, which is asked only
 * where `auths` has nothing (docker/cli `cli/config/configfile`). Pure.
 */
export function findHelper(
  config: DockerConfig,
  registry: string,
): { readonly own: HelperChoice | undefined; readonly store: HelperChoice | undefined } {
  const hosts = registry === dockerHub ? hubKeys : [registry];
  const [server = registry] = hosts;
  const key = hosts.find((host) => config.helpers.has(host));
  const own = key === undefined ? undefined : config.helpers.get(key);
  return {
    own: own === undefined || own === '' ? undefined : { helper: own, server },
    store: config.store === undefined ? undefined : { helper: config.store, server },
  };
}

/**
 * The credential of a config for one repository; undefined when it has none. Keys are tried from the narrowest:
 * the repository and its parents, the registry (Docker Hub: its well-known keys), then any key with the same host
 * (docker/cli `cli/config/configfile`, containers-auth.json(5)). Throws FetchError `bad_pull_secret` for an entry
 * that applies and cannot be used.
 */
export function findCredential(
  config: DockerConfig,
  scope: { readonly registry: string; readonly repository: string },
): RegistryCredential | undefined {
  for (const key of candidateKeys(config, scope.registry, scope.repository)) {
    const entry = config.auths.get(key);
    const credential = entry === undefined ? undefined : readEntry(entry, key, config.label);
    if (credential !== undefined) return credential;
  }
  return undefined;
}

function candidateKeys(config: DockerConfig, registry: string, repository: string): string[] {
  const hosts = registry === dockerHub ? hubKeys : [registry];
  const parts = repository.split('/');
  const scoped = hosts
    .filter((host) => !host.includes('//'))
    .flatMap((host) => parts.map((_, index) => `${host}/${parts.slice(0, parts.length - index).join('/')}`));
  const sameHost = [...config.auths.keys()].filter((key) => hosts.includes(hostOfKey(key)));
  return [...scoped, ...hosts, ...sameHost];
}

function hostOfKey(key: string): string {
  return key.replace(/^https?:\/\//, '').replace(/\/.*$/s, '');
}

function readEntry(entry: AuthEntry, key: string, label: string): RegistryCredential | undefined {
  const read = (field: string): string => {
    const value = entry[field] ?? '';
    if (typeof value === 'string') return value;
    throw badConfig(label, `has a field "${field}" for ${JSON.stringify(key)} that is not a text`);
  };
  const registryToken = read('registrytoken');
  if (registryToken !== '') return { kind: 'registry-token', token: registryToken };
  const identityToken = read('identitytoken');
  const auth = read('auth');
  const username = read('username');
  if (identityToken !== '') {
    // Docker writes the user's name into the entry, with an empty password.
    const user = username || userOf(auth);
    return { kind: 'identity-token', token: identityToken, ...(user === '' ? {} : { username: user }) };
  }
  if (auth !== '') return decodeAuth(auth, key, label);
  const password = read('password');
  return username === '' && password === '' ? undefined : { kind: 'basic', username, password };
}

function userOf(auth: string): string {
  const decoded = Buffer.from(auth, 'base64').toString('utf8');
  return decoded.slice(0, Math.max(0, decoded.indexOf(':')));
}

function decodeAuth(auth: string, key: string, label: string): RegistryCredential {
  const text = auth.replaceAll(/[\r\n]/g, '');
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text)) {
    throw badConfig(label, `has a field "auth" for ${JSON.stringify(key)} that is not base64`);
  }
  const decoded = Buffer.from(text, 'base64').toString('utf8');
  const colon = decoded.indexOf(':');
  if (colon < 1) {
    throw badConfig(
      label,
      `has a field "auth" for ${JSON.stringify(key)} that is not base64 of user:password`,
    );
  }
  // Old docker clients padded the password with zero bytes.
  const password = decoded.slice(colon + 1).replace(/\0+$/, '');
  return { kind: 'basic', username: decoded.slice(0, colon), password };
}

function badConfig(label: string, reason: string): FetchError {
  return new FetchError(
    'bad_pull_secret',
    `${label} ${reason}; give a docker config JSON like {"auths":{"<registry>":{"auth":"<base64 of user:password>"}}}`,
    { result: 'manifest_failure' },
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
