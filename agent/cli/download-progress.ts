import { sizeWords } from '../status/plugin-words.ts';

/** Where progress is shown. */
export interface ProgressTarget {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** A terminal is not written to more often. */
const redrawMs = 100;
/** Without a terminal a line is written each time so much has passed. */
const lineMs = 5_000;
const barWidth = 24;

/**
 * Shows how far a download is: a bar that is drawn over itself on a terminal, plain lines elsewhere. It writes when
 * bytes come: what hangs is seen by its standing still.
 */
export class DownloadProgress {
  readonly #target: ProgressTarget;
  readonly #nowMs: () => number;
  readonly #startedMs: number;
  #writtenMs = Number.NEGATIVE_INFINITY;
  #isDrawn = false;

  constructor(target: ProgressTarget, nowMs: () => number = () => performance.now()) {
    this.#target = target;
    this.#nowMs = nowMs;
    this.#startedMs = nowMs();
    if (target.isTTY !== true) this.#writtenMs = this.#startedMs;
  }

  /** To be called with each chunk. `totalBytes` is undefined where nobody has said it. */
  received(receivedBytes: number, totalBytes: number | undefined): void {
    const nowMs = this.#nowMs();
    const isTerminal = this.#target.isTTY === true;
    const isEnd = receivedBytes === totalBytes && isTerminal;
    if (!isEnd && nowMs - this.#writtenMs < (isTerminal ? redrawMs : lineMs)) return;
    this.#writtenMs = nowMs;
    const words = progressWords(receivedBytes, totalBytes, nowMs - this.#startedMs);
    if (!isTerminal) {
      this.#target.write(`${words}\n`);
      return;
    }
    this.#isDrawn = true;
    const text = `${progressBar(receivedBytes, totalBytes)} ${words}`;
    this.#target.write(`\r\u001b[K${text.slice(0, Math.max(0, (this.#target.columns ?? 80) - 1))}`);
  }

  /** Takes the bar away. */
  end(): void {
    if (this.#isDrawn) this.#target.write('\r\u001b[K');
    this.#isDrawn = false;
  }
}

/** `1.2 MiB of 3.4 MiB, 35%, 2.0 MiB/s`. Pure. */
export function progressWords(
  receivedBytes: number,
  totalBytes: number | undefined,
  elapsedMs: number,
): string {
  const rate = `${sizeWords(Math.round(receivedBytes / (Math.max(1, elapsedMs) / 1_000)))}/s`;
  if (totalBytes === undefined || totalBytes === 0) return `${sizeWords(receivedBytes)}, ${rate}`;
  const percent = Math.floor((100 * Math.min(receivedBytes, totalBytes)) / totalBytes);
  return `${sizeWords(receivedBytes)} of ${sizeWords(totalBytes)}, ${percent}%, ${rate}`;
}

function progressBar(receivedBytes: number, totalBytes: number | undefined): string {
  if (totalBytes === undefined || totalBytes === 0) return `[${'.'.repeat(barWidth)}]`;
  const filled = Math.min(barWidth, Math.floor((barWidth * receivedBytes) / totalBytes));
  return `[${'#'.repeat(filled)}${'.'.repeat(barWidth - filled)}]`;
}
