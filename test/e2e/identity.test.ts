import assert from 'node:assert/strict';
import { randomUUID, X509Certificate } from 'node:crypto';
import { readFile, rename, symlink } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { Authority, type KeyedCertificate } from '../support/certificate-authority/authority.ts';
import { openSsl, openSslExchange, openSslSkipReason } from '../support/certificate-authority/open-ssl.ts';
import { httpGet } from '../support/http-get.ts';
import { poll } from '../support/polling.ts';
import { SdsProvider } from '../support/sds-provider.ts';
import type { Workspace } from '../support/workspace.ts';
import { modes, skipReason } from './gateway.ts';
import { MeshSidecar, workloadId } from './mesh-sidecar.ts';

const deadlineMs = 20_000;

for (const mode of modes) {
  describe(`a sidecar of a mesh with mutual TLS, ${mode}`, { skip: skipReason }, () => {
    test('presents the certificate of the CA, with its SPIFFE name, as OpenSSL sees it', {
      skip: openSslSkipReason() ?? false,
    }, async (t) => {
      const sidecar = await MeshSidecar.start(t, { mode });
      const { workspace, authorities, ca } = sidecar;
      const client = authorities.workloads.issue(['spiffe://cluster.local/ns/default/sa/client']);
      await workspace.write('client/key.pem', client.key);
      await workspace.write('client/cert.pem', client.certificate);
      await workspace.write('client/root.pem', authorities.workloads.certificate);
      const words = `s_client -connect 127.0.0.1:${sidecar.port} -ign_eof -verify_return_error -CAfile ${workspace.path('client/root.pem')} -cert ${workspace.path('client/cert.pem')} -key ${workspace.path('client/key.pem')}`;
      const request = 'GET / HTTP/1.1\r\nhost: backend\r\nconnection: close\r\n\r\n';
      const output = await openSslExchange(request, ...words.split(' '));
      assert.match(output, /Verify return code: 0 \(ok\)/);
      assert.match(output, /HTTP\/1\.1 200 OK/);
      const presented = /-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----/s.exec(output)?.[0] ?? '';
      const path = await workspace.write('client/presented.pem', presented);
      const names = await openSsl('x509', '-in', path, '-noout', '-ext', 'subjectAltName');
      assert.match(names, new RegExp(`URI:${workloadId}\\s*$`));

      const [call] = ca.calls;
      assert.deepEqual(call?.headers.get('authorization'), ['Bearer the-token']);
      assert.deepEqual(call?.headers.get('clusterid'), ['Kubernetes']);
      assert.equal(ca.calls.length, 1);
      const life = /^istio_agent_cert_expiry_seconds\{resource_name="default"\} (\d+)/m.exec(
        await sidecar.agent.metrics(),
      )?.[1];
      assert.ok(Number(life) > 86_000 && Number(life) <= 86_400, `${life} s`);
      assert.doesNotMatch(sidecar.agent.logLines.join('\n'), /the-token|PRIVATE KEY/);
    });

    test('does not take a client of another authority', async (t) => {
      const sidecar = await MeshSidecar.start(t, { mode });
      const stranger = Authority.createRoot('another mesh');
      await assert.rejects(sidecar.exchange(stranger), /alert|closed/);
      assert.equal((await sidecar.exchange()).statusLine, 'HTTP/1.1 200 OK');
    });

    test('changes its certificate and its roots under load, and neither a request nor the xDS stream is lost', async (t) => {
      // Half-life would leave a busy machine little time: two of ten seconds have gone when it is renewed.
      const sidecar = await MeshSidecar.start(t, {
        mode,
        env: { SECRET_TTL: '10s', SECRET_GRACE_PERIOD_RATIO: '0.8', SECRET_GRACE_PERIOD_RATIO_JITTER: '0' },
      });
      const { authorities, ca, controlPlane, workspace } = sidecar;
      const { id } = await controlPlane.waitForStream();
      const kept = await sidecar.connect();
      const serials = new Set<string>();
      const firstSerial = (await kept.get()).serial;
      while (serials.size < 3) {
        const { serial, subjectAltName, statusLine } = await sidecar.exchange();
        assert.deepEqual([subjectAltName, statusLine], [`URI:${workloadId}`, 'HTTP/1.1 200 OK']);
        assert.equal((await kept.get()).statusLine, 'HTTP/1.1 200 OK');
        serials.add(serial);
        // Token and root of istiod are renewed by their owners meanwhile.
        await replace(workspace, 'var/run/secrets/tokens/istio-token', `token-${serials.size}`);
        const bundle = Authority.createRoot('next istiod root').certificate + authorities.istiod.certificate;
        await replace(workspace, 'var/run/secrets/istio/root-cert.pem', bundle);
      }
      const next = Authority.createRoot('next workload root');
      ca.rotate(next);
      await poll(
        async () => {
          const { statusLine } = await sidecar.exchange(next, next.certificate);
          return { done: true, value: statusLine };
        },
        { what: 'Service to a client of the new root', deadlineMs },
      );
      assert.deepEqual(await kept.get(), {
        serial: firstSerial,
        subjectAltName: `URI:${workloadId}`,
        statusLine: 'HTTP/1.1 200 OK',
      });
      kept.close();
      assert.deepEqual(
        controlPlane.openStreams.map((stream) => stream.id),
        [id],
      );
      assert.match(ca.calls.at(-1)?.headers.get('authorization').toString() ?? '', /^Bearer token-3$/);

      // What was renewed counts from the next connection on.
      await controlPlane.stop();
      await controlPlane.start();
      const stream = await controlPlane.waitForStream({ after: id });
      assert.deepEqual(stream.metadata['authorization'], ['Bearer token-3']);
      const stats = await sidecar.agent.admin.stats('update_rejected|ssl.fail_verify_error');
      const rejected = [...stats].filter(([name, count]) => name.includes('update_rejected') && count > 0);
      assert.deepEqual(rejected, []);
    });
  });
}

describe('a sidecar of a mesh', { skip: skipReason }, () => {
  test('starts without the CA, waits with its listener for it, and is ready when it is there', async (t) => {
    const gate = Promise.withResolvers<void>();
    const sidecar = await MeshSidecar.start(t, {
      beforeAgent: (ca) => ca.failNext({ kind: 'delay', until: gate.promise }),
      async beforeReady(agent, controlPlane) {
        await controlPlane.waitForAck('lds');
        assert.equal((await httpGet(`${agent.statusUrl}/healthz/ready`)).status, 503);
        await agent.waitForLog(/NOT ready: .*(server\.state|not live|workers)/);
        gate.resolve();
      },
    });
    assert.equal((await sidecar.exchange()).statusLine, 'HTTP/1.1 200 OK');
  });

  test('comes back after a crash on the sockets it left behind', async (t) => {
    const sidecar = await MeshSidecar.start(t);
    const { serial } = await sidecar.exchange();
    await sidecar.restartAfterKill();
    const after = await sidecar.exchange();
    assert.equal(after.statusLine, 'HTTP/1.1 200 OK');
    assert.notEqual(after.serial, serial);
  });

  test('writes its certificate where OUTPUT_CERTS says, and at each rotation again', async (t) => {
    const sidecar = await MeshSidecar.start(t, {
      env: {
        OUTPUT_CERTS: 'var/lib/istio/data',
        SECRET_TTL: '10s',
        SECRET_GRACE_PERIOD_RATIO: '0.8',
        SECRET_GRACE_PERIOD_RATIO_JITTER: '0',
      },
    });
    const { workspace } = sidecar;
    const serialInFile = async () => {
      const chain = await readFile(workspace.path('var/lib/istio/data/cert-chain.pem'));
      return new X509Certificate(chain).serialNumber;
    };
    const first = await serialInFile();
    await poll(
      async () => {
        const serial = await serialInFile();
        return serial === first ? { done: false, seen: serial } : { done: true, value: serial };
      },
      { what: 'Another certificate in the file', deadlineMs },
    );
  });

  test('takes its certificate from mounted files, without a CA, and follows a swap of the volume', async (t) => {
    const tlsClient = {
      ISTIO_META_TLS_CLIENT_ROOT_CERT: 'istiod-client/root.pem',
      ISTIO_META_TLS_CLIENT_CERT_CHAIN: 'istiod-client/chain.pem',
      ISTIO_META_TLS_CLIENT_KEY: 'istiod-client/key.pem',
    };
    const sidecar = await MeshSidecar.start(t, {
      env: { FILE_MOUNTED_CERTS: 'true' },
      proxyMetadata: tlsClient,
      requiresClientCertificate: true,
      async prepare(workspace, { istiod, workloads }) {
        const client = istiod.issue(['pod.default']);
        await workspace.write(tlsClient.ISTIO_META_TLS_CLIENT_ROOT_CERT, istiod.certificate);
        await workspace.write(tlsClient.ISTIO_META_TLS_CLIENT_CERT_CHAIN, client.certificate);
        await workspace.write(tlsClient.ISTIO_META_TLS_CLIENT_KEY, client.key);
        await mountCertificate(workspace, 'mounted', workloads.issue([workloadId]));
        await workspace.write('roots/root.pem', workloads.certificate);
        const mounted = workspace.path('mounted');
        return {
          certificate: `file-cert:${mounted}/cert-chain.pem~${mounted}/key.pem`,
          roots: `file-root:${workspace.path('roots/root.pem')}`,
        };
      },
    });
    const { authorities, workspace, ca } = sidecar;
    const first = await sidecar.exchange();
    assert.deepEqual([first.subjectAltName, first.statusLine], [`URI:${workloadId}`, 'HTTP/1.1 200 OK']);
    const kept = await sidecar.connect();
    await mountCertificate(workspace, 'mounted', authorities.workloads.issue([workloadId]));
    await untilSerialIsNot(sidecar, first.serial);
    const next = Authority.createRoot('next workload root');
    await replace(workspace, 'roots/root.pem', next.certificate);
    await poll(async () => ({ done: true, value: await sidecar.exchange(next) }), {
      what: 'Service to a client of the new root',
      deadlineMs,
    });
    assert.equal((await kept.get()).statusLine, 'HTTP/1.1 200 OK');
    kept.close();
    assert.equal(ca.calls.length, 0);
  });

  test('serves the workload certificate of etc/certs as "default", and follows it', async (t) => {
    const write = async (workspace: Workspace, { key, certificate }: KeyedCertificate): Promise<void> => {
      await replace(workspace, 'etc/certs/key.pem', key);
      await replace(workspace, 'etc/certs/cert-chain.pem', certificate);
    };
    const sidecar = await MeshSidecar.start(t, {
      // That root file would be istiod's too.
      env: { XDS_ROOT_CA: 'var/run/secrets/istio/root-cert.pem' },
      async prepare(workspace, { workloads }) {
        await workspace.write('etc/certs/root-cert.pem', workloads.certificate);
        await write(workspace, workloads.issue([workloadId]));
        return {};
      },
    });
    const { serial, statusLine } = await sidecar.exchange();
    assert.equal(statusLine, 'HTTP/1.1 200 OK');
    await write(sidecar.workspace, sidecar.authorities.workloads.issue([workloadId]));
    await untilSerialIsNot(sidecar, serial);
    assert.equal(sidecar.ca.calls.length, 0);
  });

  for (const socketFile of ['socket', 'spire.sock']) {
    test(`leaves the workload certificate to a provider that answers at ${socketFile}, and serves files`, async (t) => {
      let provider: SdsProvider | undefined;
      const sidecar = await MeshSidecar.start(t, {
        env: { WORKLOAD_IDENTITY_SOCKET_FILE: socketFile },
        async prepare(workspace, { workloads }) {
          const { key, certificate } = workloads.issue(['spiffe://other.provider/workload']);
          const path = workspace.path(`var/run/secrets/workload-spiffe-uds/${socketFile}`);
          const started = await SdsProvider.start(path, { default: { kind: 'key-pair', key, certificate } });
          provider = started;
          t.after(() => started.close());
          const roots = await workspace.write('roots/root.pem', workloads.certificate);
          return { roots: `file-root:${roots}`, rootsCluster: 'sds-files-grpc' };
        },
      });
      const { subjectAltName, statusLine } = await sidecar.exchange();
      assert.deepEqual(
        [subjectAltName, statusLine],
        ['URI:spiffe://other.provider/workload', 'HTTP/1.1 200 OK'],
      );
      assert.deepEqual(provider?.askedNames, ['default']);
      const { node } = await sidecar.controlPlane.waitForStream();
      assert.equal(node?.metadata['file-credential'], 'true');
      assert.equal(node.metadata['WORKLOAD_IDENTITY_SOCKET_FILE'], socketFile);
      assert.equal(sidecar.ca.calls.length, 0);
    });
  }
});

/** Writes a file as its owner does: it is never there by half. */
async function replace(workspace: Workspace, path: string, text: string): Promise<void> {
  await workspace.write(`${path}.new`, text);
  await rename(workspace.path(`${path}.new`), workspace.path(path));
}

/** Mounts key and chain as the kubelet does: in a folder behind a link, which is swapped. */
async function mountCertificate(
  workspace: Workspace,
  folder: string,
  { key, certificate }: KeyedCertificate,
): Promise<void> {
  const generation = `..${randomUUID()}`;
  await workspace.write(`${folder}/${generation}/key.pem`, key);
  await workspace.write(`${folder}/${generation}/cert-chain.pem`, certificate);
  for (const name of ['key.pem', 'cert-chain.pem']) {
    const link = workspace.path(`${folder}/${name}`);
    await symlink(`..data/${name}`, link).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  }
  await symlink(generation, workspace.path(`${folder}/..data_tmp`));
  await rename(workspace.path(`${folder}/..data_tmp`), workspace.path(`${folder}/..data`));
}

async function untilSerialIsNot(sidecar: MeshSidecar, before: string): Promise<void> {
  await poll(
    async () => {
      const { serial, statusLine } = await sidecar.exchange();
      assert.equal(statusLine, 'HTTP/1.1 200 OK');
      return serial === before ? { done: false, seen: serial } : { done: true, value: undefined };
    },
    { what: 'Another certificate', deadlineMs },
  );
}
