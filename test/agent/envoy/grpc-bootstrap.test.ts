import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { validateBootstrapConfig } from '@grpc/grpc-js-xds/build/src/xds-bootstrap.js';
import { BootstrapFileError, writeGrpcBootstrapFile } from '../../../agent/envoy/bootstrap-file.ts';
import { buildGrpcBootstrap, GrpcBootstrapReadiness } from '../../../agent/envoy/grpc-bootstrap.ts';
import { createWorkspace } from '../../support/workspace.ts';
import { type InputChanges, parsed } from '../config/agent-inputs-fixture.ts';
import { jsonDifferences } from './json-difference.ts';
import { recordedNodes } from './recorded-nodes.ts';

const noSockets = { isCredentialSocketPresent: false, isFileCredentialServed: false };
const captures = new URL('../../../../shared/captures/', import.meta.url);
const skip = existsSync(captures) ? false : 'there are no recordings of the stock agent here';

function documentOf(changes: InputChanges): Readonly<Record<string, unknown>> {
  const { grpcBootstrap, bootstrap } = parsed(changes).envoy;
  assert.ok(grpcBootstrap !== undefined);
  return buildGrpcBootstrap(grpcBootstrap, bootstrap.node, noSockets);
}

describe('the bootstrap of proxyless gRPC', () => {
  for (const [name, inputs] of Object.entries(recordedNodes)) {
    test(`of a ${name} equals the one the stock agent wrote, byte for byte`, { skip }, () => {
      const stock = readFileSync(new URL(`grpc-bootstrap.${name}.json`, captures), 'utf8');
      // Stock writes a relative socket path as an absolute one, which is right only where the agent works in `/`.
      const written = JSON.stringify(documentOf({ ...inputs, root: '/' }), undefined, 2);
      assert.deepEqual(jsonDifferences(JSON.parse(stock), JSON.parse(written)), []);
      assert.equal(written, stock);
    });
  }

  test('is accepted by a gRPC library, with and without certificates', () => {
    for (const environment of [{}, { OUTPUT_CERTS: '/var/lib/istio/data' }]) {
      const config = validateBootstrapConfig(JSON.parse(JSON.stringify(documentOf({ environment }))));
      assert.equal(config.xdsServers[0]?.server_uri, 'unix:///etc/istio/proxy/XDS');
      assert.equal(config.xdsServers[0]?.channel_creds[0]?.type, 'insecure');
      assert.equal(config.node.id, 'sidecar~10.0.0.5~web-0.shop~shop.svc.cluster.local');
    }
  });

  test('names the files of OUTPUT_CERTS, absolute', () => {
    const { certificate_providers: providers } = documentOf({
      root: '/run/agent',
      environment: { OUTPUT_CERTS: 'certs' },
    });
    assert.deepEqual(providers, {
      default: {
        plugin_name: 'file_watcher',
        config: {
          certificate_file: '/run/agent/certs/cert-chain.pem',
          private_key_file: '/run/agent/certs/key.pem',
          ca_certificate_file: '/run/agent/certs/root-cert.pem',
          refresh_interval: '900s',
        },
      },
    });
    assert.equal(documentOf({})['certificate_providers'], undefined);
  });

  test('leaves out metadata that istiod does not know, and always says grpc', () => {
    const { node } = documentOf({
      environment: { ISTIO_META_MINE: 'x', ISTIO_META_GENERATOR: 'other', ISTIO_META_MESH_ID: 'm' },
    }) as { node: { metadata: Readonly<Record<string, unknown>> } };
    assert.equal(node.metadata['MINE'], undefined);
    assert.equal(node.metadata['MESH_ID'], 'm');
    assert.equal(node.metadata['GENERATOR'], 'grpc');
    assert.deepEqual(Object.keys(node.metadata), Object.keys(node.metadata).toSorted());
  });
});

describe('the file of the gRPC bootstrap', () => {
  test('can be read by the application, and takes the place of an older one', async () => {
    await using workspace = await createWorkspace();
    const path = workspace.path('new/grpc-bootstrap.json');
    await writeGrpcBootstrapFile(path, { node: { id: 'old' } });
    await writeGrpcBootstrapFile(path, { node: {} });
    assert.equal(await readFile(path, 'utf8'), '{\n  "node": {}\n}');
    assert.equal((await stat(path)).mode & 0o777, 0o644);
    assert.deepEqual(await readdir(workspace.path('new')), ['grpc-bootstrap.json']);
  });

  test('says where it cannot be written, and how to do without', async () => {
    await using workspace = await createWorkspace();
    const file = await workspace.write('file', '');
    await assert.rejects(writeGrpcBootstrapFile(`${file}/x.json`, {}), (error: unknown) => {
      assert.ok(error instanceof BootstrapFileError);
      assert.match(
        error.message,
        /^cannot write the gRPC bootstrap to .*\/file\/x\.json: .*GRPC_XDS_BOOTSTRAP/,
      );
      return true;
    });
  });
});

describe('readiness of proxyless gRPC', () => {
  test('needs a bootstrap that can be read once', async () => {
    await using workspace = await createWorkspace();
    const path = workspace.path('b.json');
    const readiness = new GrpcBootstrapReadiness(path);
    assert.match((await readiness.check()) ?? '', /^failed loading .*b\.json: ENOENT/);
    await workspace.write('b.json', '{');
    assert.match((await readiness.check()) ?? '', /^failed loading .*b\.json: .*JSON/);
    await workspace.write('b.json', '[]');
    assert.match((await readiness.check()) ?? '', /^failed loading .*b\.json: the file holds no JSON object/);
    await workspace.write('b.json', '{}');
    assert.equal(await readiness.check(), undefined);
    await workspace.write('b.json', '{');
    assert.equal(await readiness.check(), undefined);
  });

  test('needs each certificate file each time', async () => {
    await using workspace = await createWorkspace();
    const { grpcBootstrap, bootstrap } = parsed({
      root: workspace.root,
      environment: { OUTPUT_CERTS: 'certs' },
    }).envoy;
    assert.ok(grpcBootstrap !== undefined);
    await writeGrpcBootstrapFile(
      grpcBootstrap.path,
      buildGrpcBootstrap(grpcBootstrap, bootstrap.node, noSockets),
    );
    const readiness = new GrpcBootstrapReadiness(grpcBootstrap.path);
    const missing = (name: string) => `${workspace.path(`certs/${name}`)} does not exist`;
    assert.equal(await readiness.check(), missing('cert-chain.pem'));
    await workspace.write('certs/cert-chain.pem', '');
    assert.equal(await readiness.check(), missing('key.pem'));
    await workspace.write('certs/key.pem', '');
    await workspace.write('certs/root-cert.pem', '');
    assert.equal(await readiness.check(), undefined);
    await rm(workspace.path('certs/key.pem'));
    assert.equal(await readiness.check(), missing('key.pem'));
  });
});
