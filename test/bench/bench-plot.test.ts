import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { renderPlot } from './bench-plot.ts';
import { type BenchDocument, SampleBook } from './bench-result.ts';
import { sampleDocument } from './document-fixture.ts';

function documentOf(subjects: readonly string[], values: readonly number[]): BenchDocument {
  const book = new SampleBook(subjects);
  for (const subject of subjects) {
    values.forEach((value, index) => {
      const sizeBytes = 1000 * 10 ** index;
      book.add({ metric: 'throughput', subject, sizeBytes }, value);
      book.add({ metric: 'peak-rss', subject, sizeBytes }, value * 2);
    });
  }
  return {
    ...sampleDocument(),
    subjects: subjects.map((name) => ({ name, command: null })),
    series: book.series(),
  };
}

describe('the plot', () => {
  test('is the same for the same run, and holds every figure as text too', () => {
    const svg = renderPlot(documentOf(['direct', 'ferry'], [10, 200, 3000]));
    assert.equal(svg, renderPlot(documentOf(['direct', 'ferry'], [10, 200, 3000])));
    assert.match(svg, /<desc [^>]*>[^<]*throughput of ferry at 100 KB: 3000 MB\/s/);
    assert.match(svg, /prefers-color-scheme: dark/);
  });

  test('places larger values higher and larger sizes further right, inside its own frame', () => {
    const svg = renderPlot(documentOf(['ferry'], [1, 1, 50, 7000]));
    const [points = ''] = [...svg.matchAll(/<polyline [^>]*points="([^"]+)"/g)].map(([, text = '']) => text);
    const places = points.split(' ').map((pair) => pair.split(',').map(Number));
    assert.equal(places.length, 4);
    places.forEach(([x = Number.NaN, y = Number.NaN], index) => {
      const [beforeX = 0, beforeY = Infinity] = places[index - 1] ?? [];
      assert.ok(x > beforeX && y <= beforeY, points);
      assert.ok(x > 0 && x < 800 && y > 0 && y < 600, points);
    });
  });

  test('draws one value, equal values and values near zero', () => {
    for (const values of [[5], [7, 7, 7], [0.0001, 0.0002], [100, 100_000_000]]) {
      assert.doesNotMatch(renderPlot(documentOf(['ferry'], values)), /NaN|Infinity/);
    }
  });

  test('leaves out what a logarithmic scale cannot show', () => {
    const book = new SampleBook(['ferry']);
    book.add({ metric: 'added-latency-p50', subject: 'ferry', sizeBytes: 1000 }, -0.1);
    book.add({ metric: 'peak-rss', subject: 'ferry', sizeBytes: 1000 }, 70);
    const svg = renderPlot({ ...sampleDocument(), series: book.series() });
    assert.doesNotMatch(svg, /NaN/);
    assert.equal([...svg.matchAll(/<polyline/g)].length, 1);
  });

  test('keeps names of subjects from becoming markup', () => {
    assert.doesNotMatch(renderPlot(documentOf(['<b>&"'], [1, 2])), /<b>/);
  });

  test('refuses a run without figures of the relay', () => {
    assert.throws(() => renderPlot({ ...sampleDocument(), series: [] }), /nothing to draw/);
  });

  test('of the page is drawn from the run that is kept beside it', async () => {
    const docs = new URL('../../docs/', import.meta.url);
    const document = JSON.parse(await readFile(new URL('benchmarks.json', docs), 'utf8')) as BenchDocument;
    assert.equal(
      await readFile(new URL('benchmarks.svg', docs), 'utf8'),
      renderPlot(document),
      'run npm run bench:plot',
    );
  });
});
