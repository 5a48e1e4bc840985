import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { createWorkspace } from '../support/workspace.ts';
import {
  BaselineError,
  baselineOf,
  betterOf,
  grossLoss,
  isFailure,
  judge,
  ratiosOf,
  readBaseline,
  renderJudgements,
} from './bench-baseline.ts';
import { type BenchDocument, SampleBook } from './bench-result.ts';
import { sampleDocument } from './document-fixture.ts';

/** A run in which direct takes 1 ms, grpc-js 3 ms, ferry as given, and ferry has downloaded so often. */
function documentOf(ferryMs: number, downloadCount = 1): BenchDocument {
  const book = new SampleBook(['direct', 'grpc-js', 'ferry']);
  const sizeBytes = 1000;
  book.add({ metric: 'latency-p50', subject: 'direct', sizeBytes }, 1);
  book.add({ metric: 'latency-p50', subject: 'grpc-js', sizeBytes }, 3);
  book.add({ metric: 'latency-p50', subject: 'ferry', sizeBytes }, ferryMs);
  book.add({ metric: 'throughput', subject: 'direct', sizeBytes }, 100);
  book.add({ metric: 'throughput', subject: 'ferry', sizeBytes }, 50);
  book.add({ metric: 'start-to-accept', subject: 'grpc-js', sizeBytes: null }, 80);
  book.add({ metric: 'conversion-cold', subject: 'ferry', sizeBytes: 1_000_000 }, 20);
  book.add({ metric: 'shared-url-downloads', subject: 'ferry', sizeBytes: 1_000_000 }, downloadCount);
  return { ...sampleDocument(), series: book.series() };
}

function verdicts(ferryMs: number, downloadCount = 1): readonly string[] {
  return judge(baselineOf(documentOf(2)), ratiosOf(documentOf(ferryMs, downloadCount))).map(
    ({ metric, against, verdict }) => `${metric} ${against}: ${verdict}`,
  );
}

describe('the ratios of a run', () => {
  test('divide ferry by each yardstick of the same run, so that more is worse, gains included', () => {
    assert.deepEqual(
      ratiosOf(documentOf(6)).map(({ metric, against, ratio }) => [metric, against, ratio]),
      [
        ['latency-p50', 'direct', 6],
        ['latency-p50', 'grpc-js', 2],
        ['throughput', 'direct', 2],
        ['conversion-cold', 'grpc-js start-to-accept', 0.25],
        ['shared-url-downloads', 'count', 1],
      ],
    );
  });
});

describe('a check', () => {
  test('passes what is not over the bound, and better figures', () => {
    for (const ms of [0.5, 2, 2 * grossLoss]) assert.ok(!verdicts(ms).some((text) => text.endsWith('lost')));
  });

  test('fails what is over the bound against either yardstick', () => {
    assert.deepEqual(
      verdicts(2 * grossLoss + 0.1).filter((text) => text.endsWith('lost')),
      ['latency-p50 direct: lost', 'latency-p50 grpc-js: lost'],
    );
  });

  test('does not look at a few milliseconds of what is divided by the speed of the machine', () => {
    const lost = (coldMs: number): boolean => {
      const book = new SampleBook(['grpc-js', 'ferry']);
      book.add({ metric: 'start-to-accept', subject: 'grpc-js', sizeBytes: null }, 80);
      book.add({ metric: 'conversion-warm', subject: 'ferry', sizeBytes: 1000 }, coldMs);
      const ratios = ratiosOf({ ...sampleDocument(), series: book.series() });
      const entries = [
        {
          metric: 'conversion-warm',
          sizeBytes: 1000,
          against: 'grpc-js start-to-accept',
          ratio: 0.0125,
        } as const,
      ];
      return isFailure(judge({ ...baselineOf(documentOf(2)), entries: [...entries] }, ratios));
    };
    // One millisecond in the baseline.
    assert.ok(!lost(8));
    assert.ok(lost(10));
  });

  test('has no tolerance for counts', () => {
    assert.deepEqual(
      verdicts(2, 2).filter((text) => text.endsWith('lost')),
      ['shared-url-downloads count: lost'],
    );
  });

  test('does not take what was not measured for success', () => {
    const document = documentOf(2);
    const series = document.series.filter(({ metric }) => metric !== 'throughput');
    const judgements = judge(baselineOf(document), ratiosOf({ ...document, series }));
    assert.ok(isFailure(judgements));
    assert.match(renderJudgements(baselineOf(document), judgements), /throughput .*NOT-MEASURED/);
  });

  test('passes a figure that the baseline does not have', () => {
    const document = documentOf(2);
    const baseline = { ...baselineOf(document), entries: [] };
    const judgements = judge(baseline, ratiosOf(document));
    assert.ok(judgements.every(({ verdict }) => verdict === 'new'));
    assert.ok(!isFailure(judgements));
  });

  test('looks twice: only what is lost both times is lost', () => {
    const baseline = baselineOf(documentOf(2));
    const slow = judge(baseline, ratiosOf(documentOf(20)));
    assert.ok(isFailure(slow));
    assert.ok(!isFailure(betterOf(slow, judge(baseline, ratiosOf(documentOf(2))))));
    assert.ok(isFailure(betterOf(slow, judge(baseline, ratiosOf(documentOf(19))))));
    // A second look at a part of the steps misses the others; that is no news.
    assert.ok(isFailure(betterOf(slow, [])));
  });
});

describe('the baseline file', () => {
  test('is read as it was written', async () => {
    await using workspace = await createWorkspace();
    const path = join(workspace.root, 'baseline.json');
    const baseline = baselineOf(documentOf(2));
    await writeFile(path, JSON.stringify(baseline));
    assert.deepEqual(await readBaseline(path), baseline);
  });

  test('that is missing, no JSON, or of another kind is refused with the way out', async () => {
    await using workspace = await createWorkspace();
    const path = join(workspace.root, 'baseline.json');
    await assert.rejects(readBaseline(path), /There is no baseline .*--save-baseline/);
    for (const text of [
      '{',
      '{}',
      JSON.stringify({ ...baselineOf(documentOf(2)), entries: [{ ratio: 0 }] }),
    ]) {
      await writeFile(path, text);
      await assert.rejects(readBaseline(path), (error) => {
        assert.ok(error instanceof BaselineError);
        assert.match(error.message, /no baseline of this bench.*--save-baseline/s);
        return true;
      });
    }
  });

  test('in the tree can be compared with', async () => {
    const url = new URL('baseline.json', import.meta.url);
    const { entries } = await readBaseline(url.pathname);
    assert.ok(entries.length > 20, await readFile(url, 'utf8'));
  });
});
