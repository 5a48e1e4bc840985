import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SampleBook } from './bench-result.ts';
import { renderTable } from './bench-table.ts';
import { sampleDocument } from './document-fixture.ts';

/** The cells of the line that begins with these, runs of two and more spaces taken as borders. */
function cellsOf(table: string, ...start: readonly string[]): readonly string[] {
  const lines = table.split('\n').map((line) => line.split(/ {2,}/));
  const found = lines.find((cells) => start.every((cell, index) => cells[index] === cell));
  assert.ok(found, `no line ${start.join(' | ')} in:\n${table}`);
  return found.slice(start.length);
}

function tableOf(samples: readonly number[]): string {
  const book = new SampleBook(['ferry']);
  for (const value of samples) book.add({ metric: 'idle-rss', subject: 'ferry', sizeBytes: null }, value);
  return renderTable({ ...sampleDocument(), series: book.series() });
}

describe('renderTable', () => {
  test('says where and how the figures were taken', () => {
    const table = renderTable(sampleDocument());
    assert.match(
      table,
      /^A CPU, 2 cores, Linux 6\.1\.0 x64, Node v24\.0\.0, load average 0\.13, others used 1 % of the CPUs$/m,
    );
    assert.match(table, /^mode=delta rounds=2 quick=false$/m);
  });

  test('has one column a size, with a dash where a subject was not measured', () => {
    const table = renderTable(sampleDocument());
    assert.deepEqual(cellsOf(table, 'Relay, by size of a push'), ['1 KB', '1.5 MB']);
    assert.deepEqual(cellsOf(table, 'throughput MB/s', 'direct'), ['12.3', '-']);
    assert.deepEqual(cellsOf(table, 'throughput MB/s', 'ferry'), ['-', '1841']);
    assert.deepEqual(cellsOf(table, 'start-to-accept ms', 'ferry'), ['61']);
  });

  test('aligns the figures of a block to the right', () => {
    const lines = renderTable(sampleDocument()).split('\n');
    const start = lines.findIndex((line) => line.startsWith('Relay'));
    const block = lines.slice(start, lines.indexOf('', start));
    assert.equal(block.length, 5);
    assert.equal(new Set(block.map((line) => line.length)).size, 1);
  });

  test('leaves out scenarios that were not run', () => {
    assert.doesNotMatch(renderTable(sampleDocument()), /Idle|Extension configs/);
  });

  test('marks a median whose samples lie far apart', () => {
    assert.deepEqual(cellsOf(renderTable(sampleDocument()), 'added-latency-p50 ms', 'ferry'), [
      '~0.065',
      '-',
    ]);
    assert.deepEqual(cellsOf(tableOf([50, 51, 52]), 'idle-rss MiB', 'ferry'), ['51']);
    assert.deepEqual(cellsOf(tableOf([10, 51, 52]), 'idle-rss MiB', 'ferry'), ['~51']);
  });

  const numbers: readonly (readonly [number, string])[] = [
    [1840.6, '1841'],
    [-318.24, '-318'],
    [73.25, '73.3'],
    [5.678, '5.68'],
    [-0.0412, '-0.041'],
    [20, '20'],
    [0, '0'],
  ];
  for (const [value, text] of numbers) {
    test(`writes ${value} as ${text}`, () => {
      assert.deepEqual(cellsOf(tableOf([value]), 'idle-rss MiB', 'ferry'), [text]);
    });
  }

  test('ends with the warnings of the run', () => {
    assert.match(renderTable(sampleDocument()), /\nWARNING: Only two rounds\.\n$/);
  });
});
