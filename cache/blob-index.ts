import type { FileIdentity } from './blob-folder.ts';
import type { Sha256 } from './types.ts';

export type BlobTrust =
  /** Left by an earlier run, or its fsync failed: hashed before it is handed out. */
  | 'unverified'
  /** Its bytes were hashed in this process and the file has not changed since. */
  | 'verified'
  /** Has other bytes than its name says and could not be deleted. Never handed out. */
  | 'damaged';

/** What is known of one file of the blob folder. Mutable: the store changes it under the blob's lock. */
export interface BlobEntry {
  readonly digest: Sha256;
  identity: FileIdentity;
  trust: BlobTrust;
  /** Epoch ms. */
  lastUsedMs: number;
  /** Epoch ms of the last use that was written to disk. */
  touchedMs: number;
  /** Monotonic ms; undefined until the first time. */
  handedOutMs: number | undefined;
}

/** What the store knows of its files and of who needs them, and the rule of what may be deleted. No effects. */
export class BlobIndex {
  readonly #graceMs: number;
  readonly #entries = new Map<Sha256, BlobEntry>();
  readonly #references = new Map<string, ReadonlySet<Sha256>>();

  /** `graceMs`: a blob that was handed out less than this ago may not be deleted. */
  constructor(graceMs: number) {
    this.#graceMs = graceMs;
  }

  get(digest: Sha256): BlobEntry | undefined {
    return this.#entries.get(digest);
  }

  /** Takes the place of what was known under the digest. */
  set(entry: BlobEntry): void {
    this.#entries.set(entry.digest, entry);
  }

  delete(digest: Sha256): void {
    this.#entries.delete(digest);
  }

  /** Entries may be deleted while this is walked. */
  digests(): Iterable<Sha256> {
    return this.#entries.keys();
  }

  oldestFirst(): readonly BlobEntry[] {
    return [...this.#entries.values()].sort((a, b) => a.lastUsedMs - b.lastUsedMs);
  }

  /** Damaged files are not counted: nobody can have them. */
  get usableCount(): number {
    let count = 0;
    for (const { trust } of this.#entries.values()) if (trust !== 'damaged') count += 1;
    return count;
  }

  get totalBytes(): number {
    let total = 0n;
    for (const { identity } of this.#entries.values()) total += identity.sizeBytes;
    return Number(total);
  }

  /** Being referenced is use: of what is released here the last use is `epochMs`. */
  setReferences(owner: string, digests: Iterable<Sha256>, epochMs: number): void {
    const before = this.#references.get(owner) ?? new Set<Sha256>();
    const after = new Set(digests);
    if (after.size === 0) this.#references.delete(owner);
    else this.#references.set(owner, after);
    for (const digest of before) {
      const entry = this.#entries.get(digest);
      if (entry !== undefined && !after.has(digest)) entry.lastUsedMs = Math.max(entry.lastUsedMs, epochMs);
    }
  }

  isReferenced(digest: Sha256): boolean {
    for (const digests of this.#references.values()) if (digests.has(digest)) return true;
    return false;
  }

  /** False while an owner references the blob or somebody may be about to. A damaged one is of use to nobody. */
  isDeletable(entry: BlobEntry, monotonicMs: number): boolean {
    if (entry.trust === 'damaged') return true;
    if (this.isReferenced(entry.digest)) return false;
    return entry.handedOutMs === undefined || monotonicMs - entry.handedOutMs >= this.#graceMs;
  }
}
