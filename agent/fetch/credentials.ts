import { createHmac } from 'node:crypto';
import type { WasmConfig } from '../config/agent-config.ts';
import { describeError } from '../log.ts';
import {
  type DockerConfig,
  findCredential,
  findHelper,
  hasHelpers,
  parseDockerConfig,
  type RegistryCredential,
} from './docker-config.ts';
import { FetchError } from './types.ts';
import { WatchedFile } from './watched-file.ts';

/** A credential and where it came from. */
export interface ResolvedCredential {
  readonly credential: RegistryCredential;
  /** For messages: which config was asked, and that it names helpers which are not run. Holds no secret. */
  readonly origin: string;
}

/** Whose credential is looked for. */
export interface CredentialRequest {
  readonly registry: string;
  readonly repository: string;
  /** Stands alone when it is there: the agent's own configs are not asked. */
  readonly pullSecret: string | undefined;
}

/** A docker config is small; more is a wrong file. */
const maxConfigBytes = 1024 * 1024;

const pullSecretLabel = 'the image pull secret';
const inlineLabel = 'DOCKER_AUTH_CONFIG';

/**
 * Finds the credential for a repository: in the pull secret alone when there is one, else in the agent's own docker
 * config (the settings' file for the host, then inline, then the first file that exists). Files are read again when
 * they have changed. Helper programs count in the agent's own configs only: a pull secret starts nothing.
 */
export class CredentialResolver {
  readonly #options: WasmConfig['registryCredentials'];
  readonly #hostFile: (registry: string) => string | undefined;
  readonly #files = new Map<string, WatchedFile<DockerConfig>>();
  #inline: DockerConfig | undefined;

  /** `hostFile` is the settings' own docker config for a host, if it has one. */
  constructor(
    options: WasmConfig['registryCredentials'],
    hostFile: (registry: string) => string | undefined = () => undefined,
  ) {
    this.#options = options;
    this.#hostFile = hostFile;
  }

  /** Throws FetchError `bad_pull_secret` with the result `manifest_failure`. */
  async resolve(request: CredentialRequest): Promise<ResolvedCredential> {
    if (request.pullSecret !== undefined) {
      return choose([parseDockerConfig(request.pullSecret, pullSecretLabel)], request, false);
    }
    return this.#resolveOwn(request);
  }

  /**
   * As `resolve`, but for a place of the operator's choice: what the pull secret does not have is looked for in the
   * agent's own configs too.
   */
  async resolveMirror(request: CredentialRequest): Promise<ResolvedCredential> {
    if (request.pullSecret !== undefined) {
      const found = choose([parseDockerConfig(request.pullSecret, pullSecretLabel)], request, false);
      if (found.credential.kind !== 'anonymous') return found;
    }
    return this.#resolveOwn(request);
  }

  /**
   * What `resolve` would give, where the files it looks at have not changed since. Undefined says nothing. Throws as
   * `resolve` does.
   */
  atHand(request: CredentialRequest): ResolvedCredential | undefined {
    const { pullSecret, registry } = request;
    if (pullSecret !== undefined)
      return choose([parseDockerConfig(pullSecret, pullSecretLabel)], request, false);
    if (this.#hostFile(registry) !== undefined) return undefined;
    const configs = this.#inlineConfigs();
    for (const path of this.#options.configPaths) {
      const reading = this.#file(path).atHand();
      if (reading === undefined) return undefined;
      if (reading.kind === 'missing') continue;
      configs.push(reading.value);
      break;
    }
    return choose(configs, request, true);
  }

  async #resolveOwn(request: CredentialRequest): Promise<ResolvedCredential> {
    const configs: DockerConfig[] = [];
    const hostFile = this.#hostFile(request.registry);
    if (hostFile !== undefined) {
      const config = await this.#read(hostFile);
      if (config === undefined) throw badFile(hostFile, 'is not there');
      configs.push(config);
    }
    configs.push(...this.#inlineConfigs());
    for (const path of this.#options.configPaths) {
      const config = await this.#read(path);
      if (config === undefined) continue;
      configs.push(config);
      break;
    }
    return choose(configs, request, true);
  }

  #inlineConfigs(): DockerConfig[] {
    const { inlineConfig } = this.#options;
    if (inlineConfig === undefined) return [];
    return [(this.#inline ??= parseDockerConfig(inlineConfig, inlineLabel))];
  }

  #file(path: string): WatchedFile<DockerConfig> {
    const known = this.#files.get(path);
    if (known !== undefined) return known;
    const parse = (text: string): DockerConfig => parseDockerConfig(text, `the docker config ${path}`);
    const file = new WatchedFile(path, { maxSizeBytes: maxConfigBytes, parse });
    this.#files.set(path, file);
    return file;
  }

  async #read(path: string): Promise<DockerConfig | undefined> {
    try {
      const reading = await this.#file(path).read();
      return reading.kind === 'read' ? reading.value : undefined;
    } catch (error) {
      if (error instanceof FetchError) throw error;
      throw badFile(path, `cannot be read: ${describeError(error)}`, error);
    }
  }
}

function choose(
  configs: readonly DockerConfig[],
  scope: { readonly registry: string; readonly repository: string },
  areHelpersRun: boolean,
): ResolvedCredential {
  for (const config of configs) {
    const { own, store } = areHelpersRun
      ? findHelper(config, scope.registry)
      : { own: undefined, store: undefined };
    const origin = (helper: string): string => `docker-credential-${helper} of ${config.label}`;
    if (own !== undefined) return { credential: { kind: 'helper', ...own }, origin: origin(own.helper) };
    const credential = findCredential(config, scope);
    if (credential !== undefined) return { credential, origin: config.label };
    if (store !== undefined)
      return { credential: { kind: 'helper', ...store }, origin: origin(store.helper) };
  }
  const asked =
    configs.length === 0 ? 'no docker config' : configs.map((config) => config.label).join(' and ');
  const unused = !areHelpersRun && configs.some(hasHelpers) ? '; credential helpers are not run' : '';
  const origin =
    configs.length === 0 ? `${asked} was found` : `${asked} has no entry for ${scope.registry}${unused}`;
  return { credential: { kind: 'anonymous' }, origin };
}

function badFile(path: string, reason: string, cause?: unknown): FetchError {
  return new FetchError('bad_pull_secret', `the docker config ${path} ${reason}`, {
    cause,
    result: 'manifest_failure',
  });
}

/** Stands for everybody: what was read without a credential. */
export const anonymousReader = 'anonymous';

/**
 * A name for a credential that says nothing about it: HMAC-SHA256 with a random key of this cache. Two requests with
 * the same fingerprint may share what either has read.
 */
export function credentialFingerprint(
  key: Uint8Array,
  registry: string,
  credential: RegistryCredential,
): string {
  switch (credential.kind) {
    case 'anonymous':
      return anonymousReader;
    case 'basic':
      return keyed(key, [registry, credential.kind, credential.username, credential.password]);
    case 'helper':
      // What it gives changes from hour to hour; whose it is does not.
      return keyed(key, [registry, credential.kind, credential.helper, credential.server]);
    case 'identity-token':
    case 'registry-token':
      return keyed(key, [registry, credential.kind, credential.token]);
    default:
      return credential satisfies never;
  }
}

function keyed(key: Uint8Array, parts: readonly string[]): string {
  return createHmac('sha256', key).update(JSON.stringify(parts)).digest('hex');
}
