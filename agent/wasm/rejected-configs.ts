import { hash } from 'node:crypto';
import { LRUCache } from 'lru-cache';

/** How long bytes that Envoy refused are not offered again: istiod repeats them with every change of any plugin. */
const memoryMs = 600_000;
const maxRememberedCount = 256;

interface Rejection {
  readonly reason: string;
  readonly atMs: number;
}

/**
 * Configs that Envoy has refused, by their bytes. Offered again they cost a load in Envoy and an interruption of what
 * serves; and right after a refusal Envoy would even acknowledge the same bytes without running them.
 */
export class RejectedConfigs {
  readonly #rejections: LRUCache<string, Rejection>;
  readonly #now: () => number;

  constructor(options: { readonly now?: () => number } = {}) {
    this.#now = options.now ?? Date.now;
    // The clock is ours, so that tests move it; the cache bounds the count.
    this.#rejections = new LRUCache({ max: maxRememberedCount });
  }

  add(bytes: Uint8Array, reason: string): void {
    this.#rejections.set(keyOf(bytes), { reason, atMs: this.#now() });
  }

  /** Envoy runs it after all. */
  delete(bytes: Uint8Array): void {
    if (this.#rejections.size === 0) return;
    this.#rejections.delete(keyOf(bytes));
  }

  /** Why these bytes must not be offered; undefined when they may. */
  reason(bytes: Uint8Array): string | undefined {
    if (this.#rejections.size === 0) return undefined;
    const rejection = this.#rejections.get(keyOf(bytes));
    if (rejection === undefined) return undefined;
    const ageMs = this.#now() - rejection.atMs;
    // Below zero: the clock was set back, and the time from which it is tried again may be days away.
    if (ageMs < 0 || ageMs > memoryMs) return undefined;
    const again = new Date(rejection.atMs + memoryMs).toISOString();
    return `${rejection.reason} (Envoy refused exactly this config before; it is not offered again before ${again})`;
  }
}

function keyOf(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'base64');
}
