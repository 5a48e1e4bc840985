import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { FetchFixture } from './fetch-fixture.ts';
import { componentHeader, sha256, tarOf, wasmModule } from './module-bytes.ts';
import { answer, startWebServer } from './web-server.ts';

const module = wasmModule();
const html = '<!DOCTYPE html><html><body>not here</body></html>';

describe('modules from http', () => {
  it('come as they are and keep their bytes', async () => {
    await using server = await startWebServer((_, response) => answer(response, 200, module));
    await using fixture = await FetchFixture.open();
    const fetched = await fixture.fetch(`${server.url}/m.wasm`);
    assert.deepEqual(await readFile(fetched.path), module);
    assert.equal(fetched.digest, sha256(module));
    assert.equal(fetched.checksum, sha256(module));
    assert.equal(fetched.source, 'http');
    assert.equal(fetched.sizeBytes, module.byteLength);
    assert.equal(fetched.matchedPin, undefined);
    assert.deepEqual(await fixture.samples(), [
      'cache_entries 1',
      'cache_lookup_count{hit="false"} 2',
      'remote_fetch_count{result="success"} 1',
    ]);
    assert.deepEqual(await fixture.temporaryFileNames(), []);
  });

  it('are unpacked from gzip, tar and both, whatever the entry is called', async () => {
    const tar = await tarOf(
      { name: 'readme', content: Buffer.from('hi') },
      { name: 'etc/passwd', content: module },
    );
    const packed: Record<string, Buffer> = {
      '/a.gz': gzipSync(module),
      '/a.tar': tar,
      '/a.tgz': gzipSync(tar),
    };
    await using server = await startWebServer((request, response) =>
      answer(response, 200, packed[request.target]),
    );
    await using fixture = await FetchFixture.open();
    for (const [target, bytes] of Object.entries(packed)) {
      const byModule = await fixture.fetch(`${server.url}${target}`, { sha256: sha256(module) });
      assert.deepEqual(await readFile(byModule.path), module);
      assert.equal(byModule.matchedPin, 'module');
      assert.ok(byModule.path.startsWith(fixture.folder));
      const byArchive = await fixture.fetch(`${server.url}${target}`, { sha256: sha256(bytes) });
      assert.equal(byArchive.matchedPin, 'archive');
      assert.equal(byArchive.source, 'cache');
    }
  });

  it('with another checksum than pinned are refused, and the error names every digest that would do', async () => {
    const packed = gzipSync(module);
    await using server = await startWebServer((_, response) => answer(response, 200, packed));
    await using fixture = await FetchFixture.open();
    const pin = 'a'.repeat(64);
    await assert.rejects(fixture.fetch(`${server.url}/m?token=hidden`, { sha256: pin }), {
      name: 'FetchError',
      code: 'checksum_mismatched',
      result: 'checksum_mismatched',
      message: `cannot fetch Wasm module ${server.url}/m: module downloaded from ${server.url}/m has checksum ${sha256(module)}, which does not match: ${pin} (digests that would match: archive ${sha256(packed)}, module ${sha256(module)})`,
    });
    assert.deepEqual(await fixture.samples(), [
      'cache_lookup_count{hit="false"} 1',
      'remote_fetch_count{result="checksum_mismatched"} 1',
    ]);
    assert.equal(fixture.store.blobCount, 0);
    assert.deepEqual(await fixture.temporaryFileNames(), []);
  });

  const bad: readonly (readonly [string, Buffer, string, RegExp])[] = [
    ['an HTML page', Buffer.from(html), 'not_wasm', /it is an HTML page/],
    ['a component', componentHeader, 'not_wasm', /WebAssembly component; build a core module/],
    ['nothing', Buffer.alloc(0), 'not_wasm', /it is empty/],
    [
      'damaged gzip',
      Buffer.concat([gzipSync(module).subarray(0, 20), Buffer.alloc(9)]),
      'bad_archive',
      /gzip data/,
    ],
    [
      'cut gzip',
      gzipSync(module).subarray(0, 30),
      'bad_archive',
      /gzip data cannot be unpacked: unexpected end of file/,
    ],
    ['gzip in gzip in gzip', gzipSync(gzipSync(gzipSync(module))), 'bad_archive', /nested deeper than 2/],
  ];
  for (const [name, bytes, code, message] of bad) {
    it(`that are ${name} are refused by name`, async () => {
      await using server = await startWebServer((_, response) => answer(response, 200, bytes));
      await using fixture = await FetchFixture.open();
      await assert.rejects(fixture.fetch(server.url), (error: Error & { code: string; result: string }) => {
        assert.equal(error.code, code);
        assert.equal(error.result, 'fetch_failure');
        assert.match(error.message, /fetched Wasm binary from .* is invalid/);
        assert.match(error.message, message);
        return true;
      });
      assert.equal(fixture.store.blobCount, 0);
      assert.deepEqual(await fixture.temporaryFileNames(), []);
      assert.deepEqual(await fixture.samples(), [
        'cache_lookup_count{hit="false"} 1',
        'remote_fetch_count{result="fetch_failure"} 1',
      ]);
    });
  }

  it('that turn into an HTML page although a checksum is pinned count as a mismatch', async () => {
    await using server = await startWebServer((_, response) => answer(response, 200, html));
    await using fixture = await FetchFixture.open();
    await assert.rejects(fixture.fetch(server.url, { sha256: sha256(module) }), {
      code: 'checksum_mismatched',
      message: /what was served is no module: it is an HTML page/,
    });
  });

  it('over the cap are an error, by the declared size, by the served bytes and by the unpacked ones', async () => {
    const big = Buffer.concat([module, Buffer.alloc(100_000)]);
    await using server = await startWebServer((request, response) => {
      if (request.target === '/declared') answer(response, 200, big);
      else if (request.target === '/bomb') answer(response, 200, gzipSync(big));
      else response.writeHead(200).end(big);
    });
    await using fixture = await FetchFixture.open({ config: { maxModuleBytes: 50_000 } });
    for (const target of ['/declared', '/chunked', '/bomb']) {
      await assert.rejects(fixture.fetch(server.url + target), {
        code: 'too_large',
        result: 'download_failure',
      });
    }
    assert.deepEqual(await fixture.temporaryFileNames(), []);
    assert.equal(server.requests.length, 3, 'a module that is too large is not asked for again');
  });

  it('that are missing fail at once', async () => {
    await using server = await startWebServer((_, response) => answer(response, 404));
    await using fixture = await FetchFixture.open();
    await assert.rejects(fixture.fetch(`${server.url}/gone`), {
      code: 'not_found',
      message: `cannot fetch Wasm module ${server.url}/gone: wasm module download failed after 1 attempts, last error: wasm module download request failed: status code 404`,
    });
    assert.equal(server.requests.length, 1);
    assert.deepEqual(await fixture.samples(), [
      'cache_lookup_count{hit="false"} 1',
      'remote_fetch_count{result="download_failure"} 1',
    ]);
  });

  it('are asked for again after 5xx, 408, 429, a broken connection and a cut body', async () => {
    const faults = [503, 408, 429, 'reset', 'cut'] as const;
    for (const fault of faults) {
      let requestCount = 0;
      await using server = await startWebServer((_, response) => {
        requestCount += 1;
        if (requestCount > 1) answer(response, 200, module);
        else if (fault === 'reset') response.destroy();
        else if (fault === 'cut') {
          response
            .writeHead(200, { 'content-length': module.byteLength })
            .write(module.subarray(0, 9), () => response.destroy());
        } else answer(response, fault);
      });
      await using fixture = await FetchFixture.open();
      const fetched = await fixture.fetch(server.url);
      assert.deepEqual(await readFile(fetched.path), module, `${fault}`);
      assert.deepEqual(await fixture.temporaryFileNames(), []);
    }
  });

  it('are given up after the attempts, and zero attempts count as one', async () => {
    await using server = await startWebServer((_, response) => answer(response, 503));
    for (const [attemptCount, expected] of [
      [3, 3],
      [0, 1],
    ] as const) {
      await using fixture = await FetchFixture.open({ config: { httpMaxAttemptCount: attemptCount } });
      await assert.rejects(fixture.fetch(server.url), {
        code: 'http_status',
        message: new RegExp(`failed after ${expected} attempts, last error: .*status code 503`),
      });
    }
    assert.equal(server.requests.length, 4);
  });

  it('are waited for as long as Retry-After says, but not past the deadline', async () => {
    await using server = await startWebServer((_, response) =>
      answer(response, 429, '', { 'retry-after': '3600' }),
    );
    await using fixture = await FetchFixture.open();
    await assert.rejects(fixture.fetch(server.url), {
      code: 'http_status',
      retryAfterMs: 3_600_000,
      message: /failed after 1 attempts, .*status code 429 \(no time is left for another attempt\)/,
    });
  });

  it('may take any time, a fraction of a millisecond or more than a timer holds included', async () => {
    await using server = await startWebServer((_, response) => answer(response, 200, module));
    for (const limitMs of [9_999.5, 2 ** 31, 2 ** 40]) {
      await using fixture = await FetchFixture.open({
        config: { httpRequestTimeoutMs: limitMs },
        settings: { module: () => ({ layouts: [], mirrors: [], originTimeoutMs: limitMs }) },
      });
      const fetched = await fixture.fetch(server.url, { timeoutMs: limitMs });
      assert.deepEqual(await readFile(fetched.path), module, `${limitMs}`);
    }
  });

  it('are asked for with the whole time of an attempt after the host was left alone for longer', async () => {
    let requestCount = 0;
    await using server = await startWebServer((_, response) => {
      requestCount += 1;
      if (requestCount > 1) answer(response, 200, module);
      else answer(response, 429, '', { 'retry-after': '1' });
    });
    await using fixture = await FetchFixture.open({
      config: { httpRequestTimeoutMs: 500, httpMaxAttemptCount: 1 },
    });
    await assert.rejects(fixture.fetch(server.url), { code: 'http_status' });
    const fetched = await fixture.fetch(server.url);
    assert.deepEqual(await readFile(fetched.path), module);
  });

  it('that trickle are given up at the deadline, and the connection is dropped', async () => {
    const gone = Promise.withResolvers<void>();
    await using server = await startWebServer((_, response) => {
      response.on('close', gone.resolve);
      response.writeHead(200).write(module.subarray(0, 9));
    });
    await using fixture = await FetchFixture.open();
    await assert.rejects(fixture.fetch(server.url, { timeoutMs: 1_000 }), {
      code: 'timeout',
      result: 'download_failure',
    });
    await gone.promise;
    await fixture.source.close();
    assert.deepEqual(await fixture.temporaryFileNames(), []);
    assert.ok((await fixture.samples()).includes('remote_fetch_count{result="download_failure"} 1'));
  });

  it('that nobody waits for any more are not downloaded on', async () => {
    const gone = Promise.withResolvers<void>();
    await using server = await startWebServer((_, response) => {
      response.on('close', gone.resolve);
      response.writeHead(200).write(module.subarray(0, 9));
    });
    await using fixture = await FetchFixture.open();
    const stop = new AbortController();
    const fetching = fixture.fetch(`${server.url}/m`, {}, stop.signal);
    await server.seen('GET /m');
    stop.abort();
    await assert.rejects(fetching, { code: 'aborted', result: undefined });
    await gone.promise;
    await fixture.source.close();
    assert.deepEqual(await fixture.temporaryFileNames(), []);
    assert.deepEqual(await fixture.samples(), ['cache_lookup_count{hit="false"} 1']);
  });

  it('at a time of zero fail at once, but come from the cache', async () => {
    await using server = await startWebServer((_, response) => answer(response, 200, module));
    await using fixture = await FetchFixture.open();
    await assert.rejects(fixture.fetch(server.url, { timeoutMs: 0 }), { code: 'timeout' });
    await fixture.fetch(server.url);
    assert.equal((await fixture.fetch(server.url, { timeoutMs: 0 })).source, 'cache');
  });

  it('are found over redirects, with credentials of the URL at its own origin only', async () => {
    await using target = await startWebServer((_, response) => answer(response, 200, module));
    await using server = await startWebServer((request, response) => {
      if (request.target === '/start') answer(response, 302, '', { location: '/next' });
      else answer(response, 307, '', { location: `${target.url}/final` });
    });
    await using fixture = await FetchFixture.open();
    await fixture.fetch(`http://user:pass%20word@${server.host}/start`);
    const expected = `Basic ${Buffer.from('user:pass word').toString('base64')}`;
    assert.deepEqual(
      server.requests.map((request) => request.headers.authorization),
      [expected, expected],
    );
    assert.deepEqual(
      target.requests.map((request) => request.headers.authorization),
      [undefined],
    );
    assert.ok(!fixture.logLines.join('').includes('pass'));
    assert.ok(!fixture.recordsText().includes('pass'));
  });

  it('behind endless redirects, or one to the metadata service, are refused', async () => {
    await using server = await startWebServer((request, response) => {
      const location = request.target === '/metadata' ? 'http://169.254.169.254/latest' : '/loop';
      answer(response, 302, '', { location });
    });
    await using fixture = await FetchFixture.open();
    await assert.rejects(fixture.fetch(`${server.url}/loop`), {
      code: 'redirect',
      message: /stopped after 10 redirects/,
    });
    assert.equal(server.requests.length, 11);
    await assert.rejects(fixture.fetch(`${server.url}/metadata`), {
      code: 'blocked_address',
      message: /connection blocked: resolved IP 169.254.169.254 is link-local/,
    });
  });

  it('at names that resolve to a blocked address are refused before any connection', async () => {
    const names = { 'a.test': ['169.254.169.254'], 'b.test': ['fd00:ec2::254'], 'c.test': ['127.0.0.1'] };
    await using server = await startWebServer((_, response) => answer(response, 200, module));
    await using fixture = await FetchFixture.open({ names, config: { blockedCidrs: ['127.0.0.0/8'] } });
    const refusals = {
      'a.test': 'is link-local',
      'b.test': 'is a known cloud metadata',
      'c.test': 'is in blocked CIDR range 127.0.0.0/8',
    };
    for (const [name, refusal] of Object.entries(refusals)) {
      await assert.rejects(fixture.fetch(`http://${name}:${server.port}/`), {
        code: 'blocked_address',
        message: new RegExp(`failed after 1 attempts, .*connection blocked: resolved IP .* ${refusal}`),
      });
    }
    assert.equal(server.requests.length, 0);
  });

  it('at names with a blocked and a good address are fetched from the good one', async () => {
    await using server = await startWebServer((_, response) => answer(response, 200, module));
    await using fixture = await FetchFixture.open({ names: { 'a.test': ['169.254.169.254', '127.0.0.1'] } });
    assert.equal((await fixture.fetch(`http://a.test:${server.port}/`)).source, 'http');
    assert.equal(server.requests[0]?.headers.host, `a.test:${server.port}`);
  });

  it('over TLS need a trusted certificate, or a listed host', async () => {
    const tls = Authority.createRoot().issue(['127.0.0.1']);
    await using server = await startWebServer((_, response) => answer(response, 200, module), tls);
    await using strict = await FetchFixture.open({
      config: { insecureRegistries: ['127.0.0.1', 'other:1'] },
    });
    await assert.rejects(strict.fetch(server.url), {
      code: 'tls',
      message: /failed after 1 attempts.*WASM_INSECURE_REGISTRIES/,
    });
    assert.equal(server.requests.length, 0);
    for (const listed of [server.host, '*']) {
      await using fixture = await FetchFixture.open({ config: { insecureRegistries: [listed] } });
      assert.equal((await fixture.fetch(server.url)).source, 'http');
    }
  });

  it('are refused for a URL that cannot be used', async () => {
    await using fixture = await FetchFixture.open();
    const refused: readonly (readonly [string, string, RegExp])[] = [
      ['ftp://host/x', 'unsupported_scheme', /unsupported Wasm module downloading URL scheme: ftp/],
      ['https://', 'bad_url', /fail to parse Wasm module fetch url/],
      ['http://user:secret@[bad/x', 'bad_url', /fail to parse/],
      ['http://ho\nst/', 'bad_url', /control character/],
    ];
    for (const [url, code, message] of refused) {
      await assert.rejects(fixture.fetch(url), (error: Error & { code: string; result: unknown }) => {
        assert.equal(error.code, code);
        assert.equal(error.result, undefined);
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /secret/);
        return true;
      });
    }
    assert.deepEqual(await fixture.samples(), ['cache_lookup_count{hit="false"} 1']);
  });

  it('with a pin in a wrong form are refused', async () => {
    await using fixture = await FetchFixture.open();
    for (const pin of ['A'.repeat(64), `sha256:${'a'.repeat(64)}`, 'abc', 'nil']) {
      await assert.rejects(fixture.fetch('http://127.0.0.1:9/', { sha256: pin }), { code: 'bad_checksum' });
    }
  });
});
