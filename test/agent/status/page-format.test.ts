import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseEncoding } from '../../../agent/status/content-encoding.ts';
import { isLoopbackAddress } from '../../../agent/status/local-peer.ts';
import { contentTypeOf, formatOfContentType, pageFormatOf } from '../../../agent/status/page-format.ts';
import { scrapeDeadline } from '../../../agent/status/scrape-deadline.ts';

const textType = 'text/plain; version=0.0.4; charset=utf-8';

const contentTypes: readonly (readonly [string | undefined, string, string])[] = [
  [
    'application/openmetrics-text; version=1.0.0; charset=utf-8',
    'application/openmetrics-text; version=1.0.0; charset=utf-8',
    'openmetrics',
  ],
  [
    'application/openmetrics-text;version="0.0.1"',
    'application/openmetrics-text; version=0.0.1; charset=utf-8',
    'openmetrics',
  ],
  [
    'application/openmetrics-text',
    'application/openmetrics-text; version=0.0.1; charset=utf-8',
    'openmetrics',
  ],
  ['application/openmetrics-text; version=2.0.0', textType, 'openmetrics'],
  ['text/plain; version=0.0.4', textType, 'text'],
  ['text/plain;', textType, 'text'],
  ['application/json', textType, 'text'],
  ['application/openmetrics-text; version', textType, 'text'],
  [undefined, textType, 'text'],
];

for (const [contentType, page, grammar] of contentTypes) {
  test(`an application that sends ${contentType ?? 'no type'} makes a page of ${page}`, () => {
    const format = formatOfContentType(contentType);
    assert.equal(contentTypeOf(format.page), page);
    assert.equal(format.grammar, grammar);
  });
}

test('applications decide on the format only when all agree', () => {
  const one = formatOfContentType('application/openmetrics-text; version=1.0.0');
  const other = formatOfContentType('application/openmetrics-text; version=0.0.1');
  const text = formatOfContentType('text/plain');
  assert.equal(pageFormatOf([]), 'text-0.0.4');
  assert.equal(pageFormatOf([one, one]), 'openmetrics-1.0.0');
  assert.equal(pageFormatOf([other]), 'openmetrics-0.0.1');
  assert.equal(pageFormatOf([one, other]), 'text-0.0.4');
  assert.equal(pageFormatOf([text, one]), 'text-0.0.4');
});

const encodings: readonly (readonly [string | undefined, string | undefined])[] = [
  [undefined, undefined],
  ['', undefined],
  ['identity', undefined],
  ['*', undefined],
  ['br, deflate', undefined],
  ['gzip', 'gzip'],
  ['GZIP', 'gzip'],
  ['gzip, zstd', 'zstd'],
  ['gzip;q=0.8, zstd;q=0.7', 'gzip'],
  ['zstd;q=0.5,gzip;q=0.5', 'zstd'],
  ['zstd;q=0, gzip;q=0.001', 'gzip'],
  ['gzip;q=0', undefined],
  ['gzip;q=2', undefined],
  ['gzip; q = 0.5', 'gzip'],
  ['br;q=1, gzip;q=0.1', 'gzip'],
];

for (const [header, encoding] of encodings) {
  test(`Accept-Encoding ${header ?? '(absent)'} chooses ${encoding ?? 'none'}`, () => {
    assert.equal(chooseEncoding(header), encoding);
  });
}

const deadlines: readonly (readonly [string | undefined, number, boolean])[] = [
  [undefined, 9500, true],
  ['10', 9500, true],
  ['1', 900, true],
  ['0.25', 225, true],
  ['1e1', 9500, true],
  ['100000', 119_500, true],
  ['0', 9500, false],
  ['-1', 9500, false],
  ['inf', 9500, false],
  ['1e999', 9500, false],
  ['ten', 9500, false],
  ['', 9500, false],
];

for (const [header, totalMs, isHeaderUsable] of deadlines) {
  test(`a scrape timeout of ${header ?? '(absent)'} ends after ${totalMs} ms`, () => {
    const deadline = scrapeDeadline(header);
    assert.equal(deadline.totalMs, totalMs);
    assert.equal(deadline.isHeaderUsable, isHeaderUsable);
    assert.ok(deadline.headersMs < deadline.envoyMs && deadline.envoyMs < deadline.totalMs);
  });
}

const addresses: readonly (readonly [string | undefined, boolean])[] = [
  ['127.0.0.1', true],
  ['127.255.0.6', true],
  ['::1', true],
  ['::ffff:127.0.0.1', true],
  ['::FFFF:127.1.2.3', true],
  ['10.0.0.1', false],
  ['::ffff:10.0.0.1', false],
  ['128.0.0.1', false],
  ['fe80::1', false],
  ['::', false],
  ['1270.0.0.1', false],
  [undefined, false],
];

for (const [address, isLocal] of addresses) {
  test(`a peer at ${address ?? 'an unknown address'} is ${isLocal ? '' : 'not '}on this machine`, () => {
    assert.equal(isLoopbackAddress(address), isLocal);
  });
}
