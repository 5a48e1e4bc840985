import type { Http2Session } from 'node:http2';
import { systemClock } from '../clock.ts';

/** A connection that is silent for `intervalMs` is asked with a PING, and is dead when `timeoutMs` later nothing came. */
export interface KeepaliveOptions {
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Called at most once; the owner ends the session. */
  readonly onDead: () => void;
}

/** What the timer is for. */
type KeepaliveState =
  /** Until the interval since the last activity is over. */
  | { readonly kind: 'quiet'; readonly timer: Disposable }
  /** A PING is out. */
  | { readonly kind: 'asked'; readonly timer: Disposable }
  | { readonly kind: 'stopped' };

/**
 * Finds half-open connections: an idle xDS stream is normal, so only a PING tells silence from death
 * (grpc proposal A8, client-side keepalive). Any bytes from the peer that the owner reports put the PING off.
 */
export class Keepalive {
  readonly #session: Http2Session;
  readonly #options: KeepaliveOptions;
  #state: KeepaliveState;
  #lastActivityMs = performance.now();

  constructor(session: Http2Session, options: KeepaliveOptions) {
    this.#session = session;
    this.#options = options;
    this.#state = this.#waitQuietly(options.intervalMs);
    session.on('ping', () => this.noteActivity());
    session.once('close', () => this.stop());
  }

  /** The peer has sent something. Cheap: called for every chunk. */
  noteActivity(): void {
    this.#lastActivityMs = performance.now();
  }

  stop(): void {
    if (this.#state.kind !== 'stopped') this.#state.timer[Symbol.dispose]();
    this.#state = { kind: 'stopped' };
  }

  #waitQuietly(delayMs: number): KeepaliveState {
    return { kind: 'quiet', timer: systemClock.schedule(delayMs, () => this.#onQuietEnd()) };
  }

  #onQuietEnd(): void {
    const silentMs = performance.now() - this.#lastActivityMs;
    if (silentMs < this.#options.intervalMs) {
      this.#state = this.#waitQuietly(this.#options.intervalMs - silentMs);
      return;
    }
    // A session that is going away (GOAWAY was seen) takes no more PINGs; TCP keepalive still watches it.
    if (this.#session.closed || this.#session.destroyed) {
      this.stop();
      return;
    }
    this.#state = this.#waitForAnswer();
    this.#session.ping((error) => {
      if (this.#state.kind !== 'asked') return;
      this.#state.timer[Symbol.dispose]();
      // An error says that the session ends: its own events tell how.
      if (error === null) this.noteActivity();
      this.#state = this.#waitQuietly(this.#options.intervalMs);
    });
  }

  #waitForAnswer(): KeepaliveState {
    return { kind: 'asked', timer: systemClock.schedule(this.#options.timeoutMs, () => this.#onTimeout()) };
  }

  #onTimeout(): void {
    // After a stall of this process the answer may lie unread in the socket: look at it first.
    setImmediate(() => {
      if (this.#state.kind !== 'asked') return;
      // Bytes that came after the PING prove life as well: the answer may be queued behind a large message.
      if (performance.now() - this.#lastActivityMs < this.#options.timeoutMs) {
        this.#state = this.#waitForAnswer();
        return;
      }
      this.stop();
      this.#options.onDead();
    });
  }
}
