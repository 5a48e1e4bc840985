import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DownloadProgress, progressWords } from '../../../agent/cli/download-progress.ts';

/** Keeps what is written, and is a terminal or not. */
class KeptText {
  readonly writes: string[] = [];
  readonly isTTY: boolean;
  readonly columns: number;

  constructor(isTTY: boolean, columns = 80) {
    this.isTTY = isTTY;
    this.columns = columns;
  }

  write(text: string): void {
    this.writes.push(text);
  }
}

const mib = 1024 * 1024;

describe('the progress of a download', () => {
  test('is a bar that is drawn over itself on a terminal, and goes away', () => {
    const target = new KeptText(true);
    const clock = { nowMs: 0 };
    const progress = new DownloadProgress(target, () => clock.nowMs);
    for (const [nowMs, received] of [
      [500, mib],
      [550, 1.5 * mib],
      [1_000, 2 * mib],
      [1_010, 4 * mib],
    ] as const) {
      clock.nowMs = nowMs;
      progress.received(received, 4 * mib);
    }
    progress.end();
    progress.end();
    assert.deepEqual(target.writes, [
      '\r\u001b[K[######..................] 1.0 MiB of 4.0 MiB, 25%, 2.0 MiB/s',
      '\r\u001b[K[############............] 2.0 MiB of 4.0 MiB, 50%, 2.0 MiB/s',
      '\r\u001b[K[########################] 4.0 MiB of 4.0 MiB, 100%, 4.0 MiB/s',
      '\r\u001b[K',
    ]);
  });

  test('never wraps a line of the terminal', () => {
    const target = new KeptText(true, 30);
    new DownloadProgress(target, () => 1_000).received(mib, 4 * mib);
    assert.equal(target.writes[0]?.replace('\r\u001b[K', '').length, 29);
  });

  test('is a plain line now and then elsewhere', () => {
    const target = new KeptText(false);
    const clock = { nowMs: 0 };
    const progress = new DownloadProgress(target, () => clock.nowMs);
    for (let nowMs = 0; nowMs <= 11_000; nowMs += 1_000) {
      clock.nowMs = nowMs;
      progress.received(nowMs * 1024, undefined);
    }
    progress.end();
    assert.deepEqual(target.writes, ['4.9 MiB, 1000 KiB/s\n', '9.8 MiB, 1000 KiB/s\n']);
  });

  test('makes sense with nothing known and nothing come', () => {
    assert.equal(progressWords(0, undefined, 0), '0 B, 0 B/s');
    assert.equal(progressWords(0, 0, 0), '0 B, 0 B/s');
    assert.equal(progressWords(10, 5, 1_000), '10 B of 5 B, 100%, 10 B/s');
  });
});
