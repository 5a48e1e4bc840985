import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { createWorkspace } from '../support/workspace.ts';
import { SampleBook, writeBenchDocument } from './bench-result.ts';
import { sampleDocument } from './document-fixture.ts';
import { metricCatalog } from './metric-catalog.ts';

describe('SampleBook', () => {
  test('keeps all samples of a series in the order in which they came, with metric, unit and median', () => {
    const book = new SampleBook(['ferry']);
    for (const value of [5, 1, 9]) book.add({ metric: 'peak-rss', subject: 'ferry', sizeBytes: 1000 }, value);
    assert.deepEqual(book.series(), [
      {
        scenario: 'relay',
        metric: 'peak-rss',
        unit: 'MiB',
        subject: 'ferry',
        sizeBytes: 1000,
        median: 5,
        samples: [5, 1, 9],
      },
    ]);
  });

  test('keeps sizes and subjects apart', () => {
    const book = new SampleBook(['direct', 'ferry']);
    book.add({ metric: 'throughput', subject: 'direct', sizeBytes: 1000 }, 1);
    book.add({ metric: 'throughput', subject: 'ferry', sizeBytes: 1000 }, 2);
    book.add({ metric: 'throughput', subject: 'ferry', sizeBytes: 2000 }, 3);
    assert.deepEqual(
      book.series().map(({ subject, sizeBytes, samples }) => [subject, sizeBytes, samples]),
      [
        ['direct', 1000, [1]],
        ['ferry', 1000, [2]],
        ['ferry', 2000, [3]],
      ],
    );
  });

  test('orders series by metric, size and subject, whatever was measured first', () => {
    const book = new SampleBook(['direct', 'ferry']);
    book.add({ metric: 'throughput', subject: 'ferry', sizeBytes: 100_000 }, 1);
    book.add({ metric: 'throughput', subject: 'ferry', sizeBytes: 1000 }, 1);
    book.add({ metric: 'throughput', subject: 'direct', sizeBytes: 100_000 }, 1);
    book.add({ metric: 'start-to-accept', subject: 'ferry', sizeBytes: null }, 1);
    assert.deepEqual(
      book.series().map(({ metric, sizeBytes, subject }) => [metric, sizeBytes, subject]),
      [
        ['start-to-accept', null, 'ferry'],
        ['throughput', 1000, 'ferry'],
        ['throughput', 100_000, 'direct'],
        ['throughput', 100_000, 'ferry'],
      ],
    );
  });

  test('refuses a sample that is no finite number', () => {
    const book = new SampleBook(['ferry']);
    const key = { metric: 'cpu-per-gb', subject: 'ferry', sizeBytes: 1000 } as const;
    assert.throws(() => book.add(key, Number.NaN), /NaN .*cpu-per-gb.*ferry/);
    assert.throws(() => book.add(key, Number.POSITIVE_INFINITY), RangeError);
    assert.deepEqual(book.series(), []);
  });
});

describe('writeBenchDocument', () => {
  test('writes a file that says by itself what its figures are', async () => {
    await using workspace = await createWorkspace();
    const path = join(workspace.root, 'new/folder/run.json');
    await writeBenchDocument(path, sampleDocument());
    const read: unknown = JSON.parse(await readFile(path, 'utf8'));
    assert.deepEqual(read, JSON.parse(JSON.stringify(sampleDocument())));
    assert.partialDeepStrictEqual(read, {
      schemaVersion: 1,
      kind: 'ferry-bench',
      metrics: { throughput: { unit: 'MB/s', meaning: metricCatalog.throughput.meaning } },
      series: [
        { metric: 'start-to-accept', unit: 'ms', subject: 'ferry', sizeBytes: null, samples: [60, 62] },
      ],
    });
  });

  test('replaces a file of an earlier run and leaves no other file behind', async () => {
    await using workspace = await createWorkspace();
    const folder = join(workspace.root, 'results');
    const path = join(folder, 'run.json');
    await writeBenchDocument(path, { ...sampleDocument(), warnings: ['x'.repeat(10_000)] });
    await writeBenchDocument(path, sampleDocument());
    assert.deepEqual(JSON.parse(await readFile(path, 'utf8')), JSON.parse(JSON.stringify(sampleDocument())));
    assert.deepEqual(await readdir(folder), ['run.json']);
  });
});
