import { createHmac } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import type { WasmConfig } from '../config/agent-config.ts';
import { describeError } from '../log.ts';
import {
  type DockerConfig,
  findCredential,
  parseDockerConfig,
  type RegistryCredential,
} from './docker-config.ts';
import { FetchError } from './types.ts';

/** A credential and where it came from. */
export interface ResolvedCredential {
  readonly credential: RegistryCredential;
  /** For messages: which config was asked, and that it names helpers which are not run. Holds no secret. */
  readonly origin: string;
}

interface LoadedFile {
  readonly path: string;
  readonly stamp: string;
  readonly config: DockerConfig;
}

/** A docker config is small; more is a wrong file. */
const maxConfigBytes = 1024 * 1024;

const pullSecretLabel = 'the image pull secret';
const inlineLabel = 'DOCKER_AUTH_CONFIG';

/**
 * Finds the credential for a repository: in the pull secret alone when there is one, else in the agent's own docker
 * config (inline first, then the first file that exists). Files are read again when they have changed.
 */
export class CredentialResolver {
  readonly #options: WasmConfig['registryCredentials'];
  #inline: DockerConfig | undefined;
  #loaded: LoadedFile | undefined;

  constructor(options: WasmConfig['registryCredentials']) {
    this.#options = options;
  }

  /** Throws FetchError `bad_pull_secret` with the result `manifest_failure`. */
  async resolve(request: {
    readonly registry: string;
    readonly repository: string;
    readonly pullSecret: string | undefined;
  }): Promise<ResolvedCredential> {
    if (request.pullSecret !== undefined) {
      return choose([parseDockerConfig(request.pullSecret, pullSecretLabel)], request);
    }
    const { inlineConfig } = this.#options;
    if (inlineConfig !== undefined) this.#inline ??= parseDockerConfig(inlineConfig, inlineLabel);
    const file = await this.#file();
    return choose(
      [this.#inline, file].filter((config) => config !== undefined),
      request,
    );
  }

  async #file(): Promise<DockerConfig | undefined> {
    for (const path of this.#options.configPaths) {
      const stamp = await fileStamp(path);
      if (stamp === undefined) continue;
      if (this.#loaded?.path === path && this.#loaded.stamp === stamp) return this.#loaded.config;
      const config = parseDockerConfig(await readConfig(path), `the docker config ${path}`);
      this.#loaded = { path, stamp, config };
      return config;
    }
    return undefined;
  }
}

function choose(
  configs: readonly DockerConfig[],
  scope: { readonly registry: string; readonly repository: string },
): ResolvedCredential {
  for (const config of configs) {
    const credential = findCredential(config, scope);
    if (credential !== undefined) return { credential, origin: config.label };
  }
  const asked =
    configs.length === 0 ? 'no docker config' : configs.map((config) => config.label).join(' and ');
  const helpers = configs.some((config) => config.hasHelpers) ? '; credential helpers are not run' : '';
  const origin =
    configs.length === 0 ? `${asked} was found` : `${asked} has no entry for ${scope.registry}${helpers}`;
  return { credential: { kind: 'anonymous' }, origin };
}

/** Changes with the file, also when a mounted secret is swapped under its name; undefined when it is not there. */
async function fileStamp(path: string): Promise<string | undefined> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    if (size > maxConfigBytes) {
      throw new FetchError(
        'bad_pull_secret',
        `the docker config ${path} is larger than ${maxConfigBytes} bytes`,
        {
          result: 'manifest_failure',
        },
      );
    }
    return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
  } catch (error) {
    const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw unreadable(path, error);
  }
}

async function readConfig(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): unknown {
  if (error instanceof FetchError) return error;
  return new FetchError(
    'bad_pull_secret',
    `the docker config ${path} cannot be read: ${describeError(error)}`,
    {
      cause: error,
      result: 'manifest_failure',
    },
  );
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
