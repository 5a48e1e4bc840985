import { hash } from 'node:crypto';
import type { Sha256 } from '../../../cache/types.ts';
import { FetchError } from '../types.ts';

/** What an `oci://` URL names. */
export interface OciReference {
  /** `host` or `host:port` as written; Docker Hub is `index.docker.io`. */
  readonly registry: string;
  /** With the `library/` that Docker Hub adds to single names. */
  readonly repository: string;
  /** `latest` when there was none. Ignored when there is a digest. */
  readonly tag: string;
  /** SHA-256 of a manifest or index. */
  readonly digest: Sha256 | undefined;
}

/** Docker Hub's canonical registry name. */
export const dockerHub = 'index.docker.io';

const registryPattern = /^(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::\d{1,5})?$/i;
const repositoryPattern = /^[a-z0-9_-][a-z0-9_.-]*(?:\/[a-z0-9_-][a-z0-9_.-]*)*$/;
const tagPattern = /^\w[\w.-]{0,127}$/;
const digestPattern = /^sha256:([0-9a-f]{64})$/;
const maxRepositoryLength = 255;

/**
 * Reads `registry/repository:tag@digest`, the text after `oci://` without user info and query.
 * The rules are those of the stock agent's registry library (google/go-containerregistry `pkg/name`): the first part
 * is a registry only with a `.` or `:` in it, no tag means `latest`, a digest wins over a tag.
 * Throws FetchError `bad_url` with the result `manifest_failure`.
 */
export function parseOciReference(text: string): OciReference {
  const refuse = (reason: string): FetchError =>
    new FetchError(
      'bad_url',
      `could not fetch Wasm OCI image: could not parse url in image reference: ${JSON.stringify(text)}: ${reason}`,
      { result: 'manifest_failure' },
    );
  const at = text.indexOf('@');
  const tagged = at === -1 ? text : text.slice(0, at);
  const [, digest] = digestPattern.exec(at === -1 ? '' : text.slice(at + 1)) ?? [];
  if (at !== -1 && digest === undefined) {
    throw refuse('the digest is not "sha256:" with 64 lower-case hex digits');
  }

  const colon = tagged.lastIndexOf(':');
  const hasTag = colon > tagged.lastIndexOf('/');
  const tag = hasTag ? tagged.slice(colon + 1) : 'latest';
  if (!tagPattern.test(tag)) {
    throw refuse(`the tag ${JSON.stringify(tag)} is not 1 to 128 letters, digits, "_", "." and "-"`);
  }

  const name = hasTag ? tagged.slice(0, colon) : tagged;
  const slash = name.indexOf('/');
  const first = slash === -1 ? '' : name.slice(0, slash);
  const isRegistryNamed = /[.:]/.test(first);
  const registry = isRegistryNamed ? hubAlias(first) : dockerHub;
  // The pattern takes more than there are addresses and ports: 1.2.3.256, [::::], :99999.
  if (!registryPattern.test(registry) || !URL.canParse(`https://${registry}`)) {
    throw refuse(`${JSON.stringify(registry)} is not a registry host`);
  }
  const path = isRegistryNamed ? name.slice(slash + 1) : name;
  if (path.length > maxRepositoryLength || !repositoryPattern.test(path)) {
    throw refuse(
      `the repository ${JSON.stringify(path)} is not 1 to ${maxRepositoryLength} lower-case letters, digits, "_", "-" and "." in parts divided by "/"`,
    );
  }
  const repository = registry === dockerHub && !path.includes('/') ? `library/${path}` : path;
  return { registry, repository, tag, digest };
}

function hubAlias(registry: string): string {
  return registry === 'docker.io' ? dockerHub : registry;
}

/** The repository with its scheme, without tag and digest: what names modules in the cache. */
export function repositoryName(reference: OciReference): string {
  return `oci://${reference.registry}/${reference.repository}`;
}

/** The reference as text, canonical: parsing it again gives the same reference. */
export function referenceText(reference: OciReference): string {
  const name = `${reference.registry}/${reference.repository}`;
  return reference.digest === undefined ? `${name}:${reference.tag}` : `${name}@sha256:${reference.digest}`;
}

/** Hex SHA-256 of bytes that are whole in memory. */
export function sha256Of(bytes: Uint8Array | string): Sha256 {
  return hash('sha256', bytes);
}
