import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { FetchFixture } from './fetch-fixture.ts';
import {
  dockerManifest,
  dockerTarGzip,
  ImageRegistry,
  type Layer,
  ociTarGzip,
  pullSecret,
  wasmConfig,
  wasmContent,
} from './image-registry.ts';
import { componentHeader, pluginLayer, sha256, tarOf, wasmModule } from './module-bytes.ts';
import { answer, startWebServer } from './web-server.ts';

const module = wasmModule();
const layer = await pluginLayer(module);
const plainTar = await tarOf({ name: 'plugin.wasm', content: module });
const base = { mediaType: ociTarGzip, bytes: gzipSync(await tarOf({ name: 'etc/os-release' })) };

const firstFetch = [
  'cache_entries 1',
  'cache_lookup_count{hit="false"} 2',
  'remote_fetch_count{result="success"} 1',
];

describe('modules from image registries', () => {
  it('come from the compat layout of OCI and Docker and from the artifact layout', async () => {
    const registry = new ImageRegistry();
    const raw = [
      { mediaType: wasmConfig, bytes: Buffer.from('{}') },
      { mediaType: wasmContent, bytes: module },
    ];
    const images = {
      oci: registry.image(
        [
          { mediaType: ociTarGzip, bytes: await pluginLayer(wasmModule('first')) },
          { mediaType: ociTarGzip, bytes: layer },
        ],
        { tags: ['oci'] },
      ),
      docker: registry.image([{ mediaType: dockerTarGzip, bytes: layer }], {
        tags: ['docker'],
        mediaType: dockerManifest,
      }),
      artifact: registry.image(raw, { tags: ['artifact'] }),
    };
    await using server = await startWebServer(registry.handle);
    for (const [tag, image] of Object.entries(images)) {
      await using fixture = await FetchFixture.open();
      const fetched = await fixture.fetch(`oci://${server.host}/team/plugin:${tag}`);
      assert.deepEqual(await readFile(fetched.path), module, tag);
      assert.equal(fetched.checksum, image.digest);
      assert.equal(fetched.digest, sha256(module));
      assert.equal(fetched.source, 'oci');
      assert.deepEqual(await fixture.samples(), firstFetch);
    }
  });

  const empty = 'application/vnd.oci.empty.v1+json';
  const unknownConfig = 'application/vnd.unknown.config.v1+json';
  const spec = { mediaType: 'application/vnd.module.wasm.spec.v1+yaml', bytes: Buffer.from('name: x') };
  const doc = { mediaType: 'application/vnd.module.wasm.doc.v1+markdown', bytes: Buffer.from('# x') };
  const tarGzip = { mediaType: ociTarGzip, bytes: layer };
  const ociTar = 'application/vnd.oci.image.layer.v1.tar';
  const title = { 'org.opencontainers.image.title': 'filter.wasm' };
  const artifact = { artifactType: 'application/vnd.acme.filter', configType: empty };
  const layouts: readonly (readonly [string, readonly Layer[], Parameters<ImageRegistry['image']>[1]])[] = [
    [
      'CNCF',
      [{ mediaType: 'application/wasm', bytes: module }],
      { configType: 'application/vnd.wasm.config.v0+json' },
    ],
    [
      'wasm-to-oci',
      [{ mediaType: 'application/vnd.wasm.content.layer.v1+wasm', bytes: module }],
      { configType: 'application/vnd.wasm.config.v1+json' },
    ],
    ['higress with the module last', [spec, doc, tarGzip], { configType: unknownConfig }],
    ['higress with the module first', [tarGzip, spec, doc], { configType: unknownConfig }],
    ['higress with the module between', [spec, tarGzip, doc], { configType: unknownConfig }],
    ['an artifact of OCI 1.1', [{ mediaType: 'application/wasm', bytes: module }], artifact],
    [
      'an artifact of OCI 1.1 that goes by its bytes',
      [{ mediaType: 'application/octet-stream', bytes: module }],
      artifact,
    ],
    ['an artifact that docker has pushed again', [{ mediaType: empty, bytes: layer }], {}],
    [
      'a file that was pushed without a type',
      [{ mediaType: ociTar, bytes: module, annotations: title }],
      { configType: unknownConfig },
    ],
    ['tar+zstd', [{ mediaType: `${ociTar}+zstd`, bytes: zstdCompressSync(plainTar) }], {}],
    ['plain tar', [{ mediaType: ociTar, bytes: plainTar }], {}],
    [
      'plain tar of Docker',
      [{ mediaType: 'application/vnd.docker.image.rootfs.diff.tar', bytes: plainTar }],
      { mediaType: dockerManifest },
    ],
    ['a module in gzip', [{ mediaType: wasmContent, bytes: gzipSync(module) }], {}],
    ['an image with the module in a lower layer', [tarGzip, base], {}],
  ];
  for (const [name, layers, options] of layouts) {
    it(`come from ${name}`, async () => {
      const registry = new ImageRegistry();
      registry.image(layers, { ...options, tags: ['v1'] });
      await using server = await startWebServer(registry.handle);
      await using fixture = await FetchFixture.open();
      const fetched = await fixture.fetch(`oci://${server.host}/plugin:v1`);
      assert.deepEqual(await readFile(fetched.path), module);
    });
  }

  it('come with the way they were found: every digest, what was taken and what was not', async () => {
    const registry = new ImageRegistry();
    const image = registry.image([spec, tarGzip, base], { tags: ['amd64'] });
    const other = registry.image([tarGzip]);
    const index = registry.index(
      [
        { image: other, platform: { os: 'linux', architecture: 'arm64' } },
        { image, platform: { os: 'wasip1', architecture: 'wasm' } },
      ],
      { tags: ['v1'] },
    );
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const fetched = await fixture.fetch(`oci://${server.host}/plugin:v1`);
    assert.deepEqual(fetched.digests, {
      index: [index.digest],
      manifest: image.digest,
      layer: sha256(layer),
      module: sha256(module),
    });
    assert.equal(fetched.sourceName, `origin ${server.host}`);
    const steps = fetched.trace?.steps ?? [];
    assert.deepEqual(
      steps.map(({ kind, taken, reason }) => [kind, taken.replace(/ .*/, ''), reason]),
      [
        ['index', `sha256:${index.digest}`, 'it is for wasip1/wasm'],
        ['manifest', `sha256:${image.digest}`, 'it is the image'],
        ['layer', `sha256:${sha256(layer)}`, 'it is a tar archive below the last'],
        ['file', 'plugin.wasm', 'the module was in gzip > tar'],
      ],
    );
    const refused = steps.flatMap((step) =>
      step.refused.map(({ candidate, reason }) => `${candidate}: ${reason}`),
    );
    assert.equal(refused.length, 3);
    for (const [position, pattern] of [
      new RegExp(`${other.digest}.*arm64.*another image comes first`),
      /spec\.v1\+yaml\): its media type is not that of a module/,
      new RegExp(`${sha256(base.bytes)}: .*plugin\\.wasm not found`),
    ].entries()) {
      assert.match(refused[position] ?? '', pattern);
    }
  });

  it('are refused where two layers are modules, and both are named', async () => {
    const registry = new ImageRegistry();
    const layers = [module, wasmModule('other')].map((bytes) => ({ mediaType: wasmContent, bytes }));
    registry.image(layers, { tags: ['v1'] });
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const digests = layers.map(({ bytes }) => sha256(bytes)).join('.*');
    await assert.rejects(fixture.fetch(`oci://${server.host}/plugin:v1`), {
      code: 'bad_manifest',
      message: new RegExp(`several layers that are Wasm modules.*${digests}`),
    });
    assert.equal(server.count('GET /v2/plugin/blobs/'), 0);
  });

  it('are accepted with a pin of index, manifest, layer or module, and the rung is told', async () => {
    const registry = new ImageRegistry();
    const image = registry.image([{ mediaType: ociTarGzip, bytes: layer }]);
    const other = registry.image([{ mediaType: ociTarGzip, bytes: await pluginLayer(wasmModule('arm')) }]);
    const index = registry.index(
      [
        { image: other, platform: { os: 'linux', architecture: 'arm64' } },
        { image, platform: { os: 'wasip1', architecture: 'wasm' } },
      ],
      { tags: ['v1'] },
    );
    await using server = await startWebServer(registry.handle);
    const pins = {
      index: index.digest,
      manifest: image.digest,
      layer: sha256(layer),
      module: sha256(module),
    };
    await using shared = await FetchFixture.open();
    await shared.fetch(`oci://${server.host}/plugin:v1`);
    for (const [rung, pin] of Object.entries(pins)) {
      await using fixture = await FetchFixture.open();
      const fetched = await fixture.fetch(`oci://${server.host}/plugin:v1`, { sha256: pin });
      assert.equal(fetched.matchedPin, rung);
      assert.equal(fetched.checksum, image.digest);
      const cached = await shared.fetch(`oci://${server.host}/plugin:other`, { sha256: pin });
      assert.deepEqual([cached.source, cached.matchedPin], ['cache', rung]);
    }
    await using fixture = await FetchFixture.open();
    const byDigest = await fixture.fetch(`oci://${server.host}/plugin@sha256:${index.digest}`);
    assert.equal(byDigest.matchedPin, 'index');
    assert.deepEqual(await fixture.samples(), [
      'cache_entries 1',
      'cache_lookup_count{hit="false"} 1',
      'remote_fetch_count{result="success"} 1',
    ]);
  });

  it('with a wrong pin are refused, without a download where that is clear before', async () => {
    const registry = new ImageRegistry();
    registry.image(
      [
        { mediaType: wasmConfig, bytes: Buffer.from('{}') },
        { mediaType: wasmContent, bytes: module },
      ],
      { tags: ['raw'] },
    );
    registry.image([{ mediaType: ociTarGzip, bytes: layer }], { tags: ['tar'] });
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const pin = 'b'.repeat(64);
    for (const tag of ['raw', 'tar', 'tar']) {
      await assert.rejects(fixture.fetch(`oci://${server.host}/plugin:${tag}`, { sha256: pin }), {
        code: 'checksum_mismatched',
        message: new RegExp(
          `has checksum [0-9a-f]{64}, which does not match: ${pin} \\(digests that would match: manifest `,
        ),
      });
    }
    assert.equal(server.count(`GET /v2/plugin/blobs/sha256:${sha256(module)}`), 0);
    assert.equal(
      server.count('GET /v2/plugin/blobs/'),
      1,
      'what was downloaded for nothing is not downloaded twice',
    );
    assert.deepEqual(await fixture.samples(), [
      'cache_entries 1',
      'cache_lookup_count{hit="false"} 3',
      'remote_fetch_count{result="checksum_mismatched"} 3',
      'remote_fetch_count{result="success"} 1',
    ]);
  });

  it('that are missing count as a manifest failure, with one lookup', async () => {
    const registry = new ImageRegistry();
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    await assert.rejects(fixture.fetch(`oci://${server.host}/plugin:gone`), {
      code: 'not_found',
      result: 'manifest_failure',
      message: `cannot fetch Wasm module oci://${server.host}/plugin:gone: could not fetch Wasm OCI image: could not fetch manifest: ${server.host}/plugin manifests/gone: status code 404 (MANIFEST_UNKNOWN)`,
    });
    assert.deepEqual(await fixture.samples(), [
      'cache_lookup_count{hit="false"} 1',
      'remote_fetch_count{result="manifest_failure"} 1',
    ]);
  });

  it('in an image of an unknown layout are refused with the reason for every layer', async () => {
    const registry = new ImageRegistry();
    registry.image(
      [
        { mediaType: 'text/plain', bytes: Buffer.from('a') },
        { mediaType: 'application/vnd.oci.empty.v1+json', bytes: Buffer.from('{}') },
      ],
      { tags: ['v1'] },
    );
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    await assert.rejects(fixture.fetch(`oci://${server.host}/plugin:v1`), {
      code: 'bad_manifest',
      result: 'download_failure',
      message:
        /the given image is in invalid format as an OCI image: .*text\/plain\): its media type is not that of a module; .*it is empty/,
    });
  });

  const damaged: readonly (readonly [string, () => Promise<Buffer>, string, string, RegExp])[] = [
    [
      'without plugin.wasm',
      async () =>
        gzipSync(
          await tarOf({ name: 'a/other.wasm', content: module }, { name: 'plugin.wasm', type: 'directory' }),
        ),
      'bad_archive',
      'download_failure',
      /plugin.wasm not found in the archive; .*seen: "a\/other.wasm", "plugin.wasm\/?"/,
    ],
    [
      'of damaged gzip',
      async () => Buffer.concat([layer.subarray(0, 40), Buffer.alloc(20)]),
      'bad_archive',
      'download_failure',
      /gzip data cannot be unpacked/,
    ],
    [
      'with a component',
      async () => pluginLayer(componentHeader),
      'not_wasm',
      'fetch_failure',
      /fetched Wasm binary from .* is invalid: .*WebAssembly component/,
    ],
    [
      'that is no archive',
      async () => Buffer.alloc(300_000, 'plain text'),
      'not_wasm',
      'fetch_failure',
      /neither Wasm, gzip nor tar/,
    ],
  ];
  for (const [name, bytes, code, result, message] of damaged) {
    it(`in a layer ${name} are refused by name`, async () => {
      const registry = new ImageRegistry();
      registry.image([{ mediaType: ociTarGzip, bytes: await bytes() }], { tags: ['v1'] });
      await using server = await startWebServer(registry.handle);
      await using fixture = await FetchFixture.open();
      await assert.rejects(fixture.fetch(`oci://${server.host}/plugin:v1`), { code, result, message });
      assert.deepEqual(await fixture.temporaryFileNames(), []);
      assert.equal(fixture.store.blobCount, 0);
    });
  }

  it('behind bytes with another digest are never used, nor is a manifest', async () => {
    const registry = new ImageRegistry();
    const image = registry.image([{ mediaType: ociTarGzip, bytes: layer }], { tags: ['v1'] });
    // The same content and size, with another time in the gzip header.
    const forged = Buffer.from(layer);
    forged[4] = 0x7f;
    registry.fail('GET /v2/plugin/blobs/', (_, response) => {
      answer(response, 200, forged);
      return true;
    });
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    await assert.rejects(fixture.fetch(`oci://${server.host}/plugin:v1`), {
      code: 'digest_mismatch',
      result: 'download_failure',
    });
    assert.equal(fixture.store.blobCount, 0);
    registry.fail('GET /v2/plugin/manifests/', (_, response) => {
      answer(response, 200, `${image.bytes.toString()} `, {
        'docker-content-digest': `sha256:${image.digest}`,
      });
      return true;
    });
    await assert.rejects(fixture.fetch(`oci://${server.host}/plugin@sha256:${image.digest}`), {
      code: 'digest_mismatch',
      result: 'manifest_failure',
    });
    assert.deepEqual(await fixture.temporaryFileNames(), []);
  });

  it('in a damaged layer whose bytes are not those of the manifest are blamed on the digest', async () => {
    const registry = new ImageRegistry();
    registry.image([{ mediaType: ociTarGzip, bytes: layer }], { tags: ['v1'] });
    registry.fail('GET /v2/plugin/blobs/', (_, response) => {
      answer(response, 200, Buffer.concat([Buffer.from('<html>'), layer.subarray(6)]));
      return true;
    });
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    await assert.rejects(fixture.fetch(`oci://${server.host}/plugin:v1`), { code: 'digest_mismatch' });
  });

  it('with a digest in the reference need that image, also when a pin is known from another one', async () => {
    const registry = new ImageRegistry();
    const bytes = layer;
    const first = registry.image([{ mediaType: ociTarGzip, bytes }], { tags: ['v1'] });
    const second = registry.image([{ mediaType: dockerTarGzip, bytes }], { mediaType: dockerManifest });
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const pin = { sha256: sha256(module) };
    assert.equal((await fixture.fetch(`oci://${server.host}/plugin:v1`, pin)).checksum, first.digest);
    const fetched = await fixture.fetch(`oci://${server.host}/plugin@sha256:${second.digest}`, pin);
    assert.deepEqual([fetched.checksum, fetched.matchedPin], [second.digest, 'module']);
  });

  it('in a layer larger than the cap are refused before a byte of it', async () => {
    const registry = new ImageRegistry();
    registry.image([{ mediaType: ociTarGzip, bytes: layer }], { tags: ['v1'], size: 1_000_000 });
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open({ config: { maxModuleBytes: 100_000 } });
    await assert.rejects(fixture.fetch(`oci://${server.host}/plugin:v1`), {
      code: 'too_large',
      result: 'download_failure',
    });
    assert.equal(server.count('GET /v2/plugin/blobs/'), 0);
  });

  it('are taken on where the connection broke, also from servers without ranges', async () => {
    const big = wasmModule('x'.repeat(200_000));
    for (const knowsRanges of [true, false]) {
      const registry = new ImageRegistry();
      registry.image(
        [
          { mediaType: wasmConfig, bytes: Buffer.from('{}') },
          { mediaType: wasmContent, bytes: big },
        ],
        { tags: ['v1'] },
      );
      registry.fail('GET /v2/plugin/blobs/', (request, response) => {
        if (!knowsRanges) delete request.headers.range;
        if (
          request.headers.range !== undefined ||
          (!knowsRanges && server.count('GET /v2/plugin/blobs/') > 1)
        )
          return false;
        response.writeHead(200, { 'content-length': big.byteLength });
        response.write(big.subarray(0, 100_000), () => response.destroy());
        return true;
      });
      await using server = await startWebServer(registry.handle);
      await using fixture = await FetchFixture.open();
      const fetched = await fixture.fetch(`oci://${server.host}/plugin:v1`);
      assert.deepEqual(await readFile(fetched.path), big);
      assert.equal(server.count('GET /v2/plugin/blobs/'), 2);
    }
  });

  it('are asked for again after a 503 or 429 at any step, three times at most', async () => {
    for (const step of ['GET /v2/', 'GET /v2/plugin/manifests/', 'GET /v2/plugin/blobs/']) {
      const registry = new ImageRegistry();
      registry.image([{ mediaType: ociTarGzip, bytes: layer }], { tags: ['v1'] });
      let status = 503;
      const fail = (_: unknown, response: Parameters<typeof answer>[0]): boolean => {
        answer(response, status, '', { 'retry-after': '0' });
        status = 429;
        return true;
      };
      registry.fail(step, fail, 2);
      await using server = await startWebServer(registry.handle);
      await using fixture = await FetchFixture.open();
      assert.equal((await fixture.fetch(`oci://${server.host}/plugin:v1`)).source, 'oci', step);
      registry.image([{ mediaType: ociTarGzip, bytes: await pluginLayer(wasmModule('two')) }], {
        tags: ['v2'],
      });
      let failedCount = 0;
      registry.fail(step, (_, response) => {
        failedCount += 1;
        answer(response, 503);
        return true;
      });
      const result = step.endsWith('blobs/') ? 'download_failure' : 'manifest_failure';
      const expected = { code: 'http_status', result, message: /status code 503/ };
      await assert.rejects(fixture.fetch(`oci://${server.host}/plugin:v2`), expected);
      assert.equal(failedCount, 3, step);
    }
  });

  it('at something that is no registry are refused with a hint', async () => {
    await using server = await startWebServer((_, response) =>
      answer(response, 200, '<html>welcome</html>', { 'content-type': 'text/html' }),
    );
    await using fixture = await FetchFixture.open();
    await assert.rejects(fixture.fetch(`oci://${server.host}/plugin:v1`), {
      code: 'bad_manifest',
      result: 'manifest_failure',
      message: /no manifest: it is not JSON \(content type text\/html\); check that the URL names a registry/,
    });
  });

  it('come with the pull secret over Basic and Bearer, identity and registry tokens', async () => {
    const registry = new ImageRegistry();
    registry.image([{ mediaType: ociTarGzip, bytes: layer }], { tags: ['v1'] });
    await using server = await startWebServer(registry.handle);
    const url = `oci://${server.host}/team/plugin:v1`;
    const users = new Map([['ann', 'pw:1']]);
    const secrets = {
      basic: pullSecret(server.host, 'ann', 'pw:1'),
      token: JSON.stringify({ auths: { [`https://${server.host}/v1/`]: { registrytoken: 'token-of-ann' } } }),
      identity: JSON.stringify({ auths: { [server.host]: { identitytoken: 'pw:1' } } }),
    };
    const cases = [
      [{ kind: 'basic', username: 'ann', password: 'pw:1' }, secrets.basic],
      [{ kind: 'bearer', users }, secrets.basic],
      [{ kind: 'bearer', users }, secrets.token],
      [{ kind: 'bearer', users }, secrets.identity],
    ] as const;
    for (const [auth, secret] of cases) {
      registry.auth = auth;
      await using fixture = await FetchFixture.open();
      const fetched = await fixture.fetch(url, { pullSecret: secret });
      assert.equal(fetched.source, 'oci');
      assert.ok(
        !/pw:1|token-of|YW5u/.test(fixture.logLines.join('') + fixture.recordsText()),
        'no secret is kept or logged',
      );
    }
    const token = server.requests.find((request) => request.target.startsWith('/token'));
    assert.equal(token?.target, '/token?service=fixture&scope=repository%3Ateam%2Fplugin%3Apull');
  });

  it('without the needed credentials are refused, and the error says where they were looked for', async () => {
    const registry = new ImageRegistry();
    registry.image([{ mediaType: ociTarGzip, bytes: layer }], { tags: ['v1'] });
    await using server = await startWebServer(registry.handle);
    const url = `oci://${server.host}/plugin:v1`;
    await using fixture = await FetchFixture.open();
    registry.auth = { kind: 'basic', username: 'ann', password: 'pw' };
    const refusals: readonly (readonly [string | undefined, RegExp])[] = [
      [undefined, /asks for a user and password, but no docker config was found; add them/],
      ['{}', /but the image pull secret has no entry for 127\.0\.0\.1:\d+; add them/],
      [
        pullSecret(server.host, 'ann', 'hunter2'),
        /status code 401 \(UNAUTHORIZED; credentials from the image pull secret\)/,
      ],
    ];
    for (const [secret, message] of refusals) {
      await assert.rejects(
        fixture.fetch(url, { pullSecret: secret }),
        (error: Error & { code: string; result: string }) => {
          assert.deepEqual([error.code, error.result], ['unauthorized', 'manifest_failure']);
          assert.match(error.message, message);
          assert.doesNotMatch(error.message, /hunter2/);
          return true;
        },
      );
    }
  });

  it('with a pull secret that cannot be read are refused, and the secret is not shown', async () => {
    await using fixture = await FetchFixture.open();
    for (const secret of ['null', 'hunter2', '[]', '{"auths":{"127.0.0.1:9":{"auth":"hunter2!"}}}']) {
      await assert.rejects(
        fixture.fetch('oci://127.0.0.1:9/plugin:v1', { pullSecret: secret }),
        (error: Error & { code: string; result: string }) => {
          assert.deepEqual([error.code, error.result], ['bad_pull_secret', 'manifest_failure']);
          assert.match(error.message, /the image pull secret (?:is|has) /);
          assert.doesNotMatch(error.message, /hunter2/);
          return true;
        },
      );
    }
  });

  it('whose registry sends tokens from an unsafe realm are refused before it is asked', async () => {
    const registry = new ImageRegistry();
    await using other = await startWebServer((_, response) => answer(response, 200, '{"token":"x"}'));
    for (const [realm, reason] of [
      [`${other.url}/token`, 'private/loopback/link-local IP'],
      [`http://localhost:${other.port}/token`, 'realm targets localhost'],
      ['http://metadata.google.internal/token', 'realm targets cloud metadata service'],
      ['ftp://auth.test/', 'realm scheme "ftp" not allowed'],
    ] as const) {
      registry.auth = { kind: 'bearer', users: new Map(), realm };
      await using server = await startWebServer(registry.handle);
      await using fixture = await FetchFixture.open();
      await assert.rejects(fixture.fetch(`oci://${server.host}/plugin:v1`), {
        code: 'blocked_address',
        result: 'manifest_failure',
        message: new RegExp(`rejected unsafe bearer realm: .*${reason}`),
      });
    }
    assert.equal(other.requests.length, 0);
  });

  it('behind a realm name that resolves to the metadata service are refused', async () => {
    const registry = new ImageRegistry();
    registry.auth = { kind: 'bearer', users: new Map(), realm: 'https://auth.test/token' };
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open({ names: { 'auth.test': ['169.254.169.254'] } });
    await assert.rejects(fixture.fetch(`oci://${server.host}/plugin:v1`), {
      code: 'blocked_address',
      message: /connection blocked: resolved IP 169.254.169.254 is link-local/,
    });
  });

  it('are followed to a blob server, without the credentials', async () => {
    const registry = new ImageRegistry();
    registry.auth = { kind: 'basic', username: 'ann', password: 'pw' };
    registry.image([{ mediaType: ociTarGzip, bytes: layer }], { tags: ['v1'] });
    await using blobs = await startWebServer((_, response) => answer(response, 200, layer));
    registry.fail('GET /v2/plugin/blobs/', (_, response) => {
      answer(response, 307, '', { location: `${blobs.url}/blob?signature=x` });
      return true;
    });
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    await fixture.fetch(`oci://${server.host}/plugin:v1`, {
      pullSecret: pullSecret(server.host, 'ann', 'pw'),
    });
    assert.equal(blobs.requests[0]?.headers.authorization, undefined);
    assert.equal(blobs.requests.length, 1);
  });

  it('are not followed to an internal address of another host', async () => {
    const registry = new ImageRegistry();
    registry.image([{ mediaType: ociTarGzip, bytes: layer }], { tags: ['v1'] });
    registry.fail('GET /v2/plugin/blobs/', (_, response) => {
      answer(response, 307, '', { location: 'https://10.0.0.1/blob' });
      return true;
    });
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    await assert.rejects(fixture.fetch(`oci://${server.host}/plugin:v1`), {
      code: 'redirect',
      result: 'download_failure',
      message: /leads to the internal address 10\.0\.0\.1 of another host/,
    });
  });

  it('of a plain http registry are fetched only where that is allowed', async () => {
    const registry = new ImageRegistry();
    registry.image([{ mediaType: ociTarGzip, bytes: layer }], { tags: ['v1'] });
    await using server = await startWebServer(registry.handle);
    const host = `registry.test:${server.port}`;
    const names = { 'registry.test': ['127.0.0.1'], 'registry.localhost': ['127.0.0.1'] };
    for (const insecureRegistries of [[], ['*'], ['registry.test']]) {
      await using strict = await FetchFixture.open({ names, config: { insecureRegistries } });
      await assert.rejects(strict.fetch(`oci://${host}/plugin:v1`), {
        code: 'tls',
        result: 'manifest_failure',
        message: /may not speak TLS/,
      });
    }
    assert.equal(server.requests.length, 0);
    await using listed = await FetchFixture.open({ names, config: { insecureRegistries: [host] } });
    assert.equal((await listed.fetch(`oci://${host}/plugin:v1`)).source, 'oci');
    await using local = await FetchFixture.open({ names });
    assert.equal((await local.fetch(`oci://registry.localhost:${server.port}/plugin:v1`)).source, 'oci');
  });

  it('of a TLS registry with a certificate that nobody signed are fetched only from a listed host', async () => {
    const tls = Authority.createRoot().issue(['127.0.0.1']);
    const registry = new ImageRegistry();
    registry.image([{ mediaType: ociTarGzip, bytes: layer }], { tags: ['v1'] });
    await using server = await startWebServer(registry.handle, tls);
    await using strict = await FetchFixture.open();
    await assert.rejects(strict.fetch(`oci://${server.host}/plugin:v1`), {
      code: 'tls',
      message: /certificate/,
    });
    await using listed = await FetchFixture.open({ config: { insecureRegistries: [server.host] } });
    assert.equal((await listed.fetch(`oci://${server.host}/plugin:v1`)).source, 'oci');
  });

  it('with a reference that cannot be read count as a manifest failure', async () => {
    await using fixture = await FetchFixture.open();
    await assert.rejects(fixture.fetch('oci://reg.test/UPPER:v1'), {
      code: 'bad_url',
      result: 'manifest_failure',
    });
    assert.deepEqual(await fixture.samples(), [
      'cache_lookup_count{hit="false"} 1',
      'remote_fetch_count{result="manifest_failure"} 1',
    ]);
  });
});
