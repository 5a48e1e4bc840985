import { randomBytes } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { credentialFingerprint } from '../credentials.ts';
import type { RegistryCredential } from '../docker-config.ts';

/** What a registry has accepted for one repository and one credential. */
export interface KnownAuthorization {
  /** Value of the `authorization` header. A secret. */
  readonly value: string;
  /** False: it is a token for everybody. */
  readonly isCredentialUsed: boolean;
}

/** Far more than the repositories of one pod. */
const maxEntryCount = 256;

/** Authorizations in memory by registry, repository and credential, each for its own time. */
export class TokenCache {
  readonly #entries = new LRUCache<string, KnownAuthorization>({ max: maxEntryCount });
  /** Keys say nothing about the credentials. */
  readonly #key = randomBytes(32);

  keyOf(registry: string, repository: string, credential: RegistryCredential): string {
    return JSON.stringify([registry, repository, credentialFingerprint(this.#key, registry, credential)]);
  }

  get(key: string): KnownAuthorization | undefined {
    return this.#entries.get(key);
  }

  set(key: string, known: KnownAuthorization, lifetimeMs: number): void {
    if (lifetimeMs >= 1) this.#entries.set(key, known, { ttl: lifetimeMs });
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }
}
