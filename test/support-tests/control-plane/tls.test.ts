import assert from 'node:assert/strict';
import { test } from 'node:test';
import { credentials, status } from '@grpc/grpc-js';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { ControlPlane } from '../../support/control-plane/control-plane.ts';
import { typeUrls } from '../../support/control-plane/type-urls.ts';
import { testNode, XdsClient } from './xds-client.ts';

const authority = Authority.createRoot();
const server = authority.issue(['istiod.test']);
const client = authority.issue(['gw.test']);
const root = Buffer.from(authority.certificate);

async function start(requiresClientCert: boolean): Promise<ControlPlane> {
  return await ControlPlane.start({
    tls: {
      cert: server.certificate,
      key: server.key,
      ...(requiresClientCert ? { clientCa: authority.certificate, requiresClientCert } : {}),
    },
  });
}

test('it serves TLS, also after a restart', async () => {
  await using controlPlane = await start(false);
  for (const count of [1, 2]) {
    const xds = new XdsClient(controlPlane.address, 'delta', { credentials: credentials.createSsl(root) });
    xds.send({ typeUrl: typeUrls.cds, node: testNode });
    await xds.next();
    assert.equal((await controlPlane.waitForStream({ after: count - 1 })).clientCertificateNames, undefined);
    await controlPlane.stop();
    assert.equal((await xds.status()).code, status.UNAVAILABLE);
    await xds.close();
    await controlPlane.start();
  }
});

test('it asks for a client certificate and tells its name', async () => {
  await using controlPlane = await start(true);
  await using xds = new XdsClient(controlPlane.address, 'sotw', {
    credentials: credentials.createSsl(root, Buffer.from(client.key), Buffer.from(client.certificate)),
  });
  xds.send({ typeUrl: typeUrls.cds, node: testNode });
  await xds.next();
  assert.equal((await controlPlane.waitForStream()).clientCertificateNames, 'DNS:gw.test');
});

test('it refuses a client without a certificate where one is required', async () => {
  await using controlPlane = await start(true);
  await using xds = new XdsClient(controlPlane.address, 'sotw', { credentials: credentials.createSsl(root) });
  xds.send({ typeUrl: typeUrls.cds, node: testNode });
  assert.equal((await xds.status()).code, status.UNAVAILABLE);
  assert.deepEqual(controlPlane.openStreams, []);
});

test('it says that a key pair is unusable', async () => {
  await assert.rejects(ControlPlane.start({ tls: { cert: server.certificate, key: client.key } }), {
    code: 'listen',
    message: /check that both are PEM and belong together/,
  });
});
