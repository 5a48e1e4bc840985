import assert from 'node:assert/strict';
import { once } from 'node:events';
import test from 'node:test';
import { connect, type PeerCertificate, type TLSSocket } from 'node:tls';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { EnvoyProcess, envoyBinary } from '../../support/envoy.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { freePorts } from '../../support/free-ports.ts';
import { atEnd } from '../../support/test-end.ts';
import { createWorkspace } from '../../support/workspace.ts';
import { spiffeId, startCa } from './ca-fixture.ts';
import { makeIdentity } from './identity-fixture.ts';

const hourMs = 3_600_000;
const envoy = envoyBinary();
const deadline = { deadlineMs: 20_000 };
const prefix = 'type.googleapis.com/envoy.extensions';

/** An Envoy that wants a client certificate, and has key, chain and roots from our SDS socket. */
function bootstrap(ports: { readonly admin: number; readonly listener: number }, sdsPath: string) {
  const address = (port: number) => ({ socket_address: { address: '127.0.0.1', port_value: port } });
  const sdsConfig = {
    resource_api_version: 'V3',
    initial_fetch_timeout: '0s',
    api_config_source: {
      api_type: 'GRPC',
      transport_api_version: 'V3',
      set_node_on_first_message_only: true,
      grpc_services: [{ envoy_grpc: { cluster_name: 'sds-grpc' } }],
    },
  };
  return {
    node: { id: 'sidecar~127.0.0.1~cart-1.shop~shop.svc.cluster.local', cluster: 'cart.shop' },
    admin: { address: address(ports.admin) },
    static_resources: {
      clusters: [
        {
          name: 'sds-grpc',
          type: 'STATIC',
          connect_timeout: '1s',
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
              '@type': `${prefix}.upstreams.http.v3.HttpProtocolOptions`,
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
          load_assignment: {
            cluster_name: 'sds-grpc',
            endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: sdsPath } } } }] }],
          },
        },
      ],
      listeners: [
        {
          name: 'mtls',
          stat_prefix: 'mtls',
          address: address(ports.listener),
          filter_chains: [
            {
              transport_socket: {
                name: 'envoy.transport_sockets.tls',
                typed_config: {
                  '@type': `${prefix}.transport_sockets.tls.v3.DownstreamTlsContext`,
                  require_client_certificate: true,
                  common_tls_context: {
                    tls_certificate_sds_secret_configs: [{ name: 'default', sds_config: sdsConfig }],
                    validation_context_sds_secret_config: { name: 'ROOTCA', sds_config: sdsConfig },
                  },
                },
              },
              filters: [
                {
                  name: 'envoy.filters.network.http_connection_manager',
                  typed_config: {
                    '@type': `${prefix}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
                    stat_prefix: 'mtls',
                    route_config: {
                      virtual_hosts: [
                        {
                          name: 'all',
                          domains: ['*'],
                          routes: [
                            {
                              match: { prefix: '/' },
                              direct_response: { status: 200, body: { inline_string: 'hello' } },
                            },
                          ],
                        },
                      ],
                    },
                    http_filters: [
                      {
                        name: 'envoy.filters.http.router',
                        typed_config: { '@type': `${prefix}.filters.http.router.v3.Router` },
                      },
                    ],
                  },
                },
              ],
            },
          ],
        },
      ],
    },
  };
}

/** A TLS connection of a workload to the listener. */
class WorkloadConnection {
  readonly peer: PeerCertificate;
  readonly #socket: TLSSocket;

  private constructor(socket: TLSSocket) {
    this.#socket = socket;
    this.peer = socket.getPeerCertificate();
  }

  static async open(
    port: number,
    authority: Authority,
    roots: readonly string[],
  ): Promise<WorkloadConnection> {
    const { key, certificate } = authority.issue(['spiffe://cluster.local/ns/shop/sa/web']);
    const socket = connect({
      host: '127.0.0.1',
      port,
      key,
      cert: certificate,
      ca: [...roots],
      // The SPIFFE identity is checked below; there is no host name.
      checkServerIdentity: () => undefined,
    });
    await once(socket, 'secureConnect');
    return new WorkloadConnection(socket);
  }

  /** A request on this connection; the status line of its answer. */
  async get(): Promise<string> {
    this.#socket.write('GET / HTTP/1.1\r\nhost: shop\r\n\r\n');
    const [answer] = (await once(this.#socket, 'data')) as [Buffer];
    return answer.toString('latin1').split('\r\n')[0] ?? '';
  }

  close(): void {
    this.#socket.destroy();
  }
}

test('a real Envoy serves mTLS with our secrets; a rotation reaches it and no connection is dropped', {
  skip: envoy.skipReason ?? false,
}, async (t) => {
  const clock = new FakeClock();
  await using workspace = await createWorkspace();
  const { ca, authority, rootPath } = await startCa(t, {
    validity: () => ({ notAfter: new Date(clock.now() + 24 * hourMs) }),
  });
  const { identity, config, logs } = await makeIdentity(t, workspace.root, {
    clock,
    values: { CA_ADDR: `localhost:${ca.port}`, CA_ROOT_CA: rootPath },
  });
  await identity.start();
  const [admin = 0, listener = 0] = await freePorts(2);
  await using running = await EnvoyProcess.start({
    path: envoy.path ?? '',
    workspace,
    adminPort: admin,
    bootstrap: bootstrap({ admin, listener }, config.workloadSocketPath),
  });
  const updates = 'listener.mtls.server_ssl_socket_factory.ssl_context_update_by_sds';
  await running.admin.waitForStat(
    'listener_manager.total_listeners_active',
    (count) => count === 1,
    deadline,
  );

  const first = await WorkloadConnection.open(listener, authority, [authority.certificate]);
  atEnd(t, () => first.close());
  assert.equal(first.peer.subjectaltname, `URI:${spiffeId}`);
  assert.equal(await first.get(), 'HTTP/1.1 200 OK');

  const seen = (await running.admin.stats(updates)).get(updates) ?? 0;
  clock.advance(12 * hourMs);
  await running.admin.waitForStat(updates, (count) => count > seen, deadline);
  const second = await WorkloadConnection.open(listener, authority, [authority.certificate]);
  atEnd(t, () => second.close());
  assert.notEqual(second.peer.fingerprint256, first.peer.fingerprint256);
  assert.equal(await second.get(), 'HTTP/1.1 200 OK');
  assert.equal(await first.get(), 'HTTP/1.1 200 OK');

  // Another root: peers of the old one are refused, connections of before live on.
  const next = Authority.createRoot('next root');
  const before = (await running.admin.stats(updates)).get(updates) ?? 0;
  ca.rotate(next);
  clock.advance(12 * hourMs);
  await running.admin.waitForStat(updates, (count) => count >= before + 2, deadline);
  const third = await WorkloadConnection.open(listener, next, [next.certificate]);
  atEnd(t, () => third.close());
  assert.equal(await third.get(), 'HTTP/1.1 200 OK');
  const stranger = await WorkloadConnection.open(listener, authority, [next.certificate]);
  atEnd(t, () => stranger.close());
  await assert.rejects(stranger.get(), /alert/);
  assert.equal(await first.get(), 'HTTP/1.1 200 OK');

  assert.equal(
    (await running.admin.stats('sds\\..*\\.update_rejected')).get('sds.default.update_rejected'),
    0,
  );
  assert.equal(ca.calls.length, 3);
  assert.ok(!logs.lines.some(({ level }) => level === 'error'), logs.text);
});
