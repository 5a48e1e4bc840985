/**
 * Builders of the listeners, routes, clusters and endpoints of a small ingress gateway.
 * Source of the ECDS filter: istio/istio `pilot/pkg/networking/core/extension/extensionfilter.go`.
 */
import type { Resource } from './discovery-messages.ts';
import { filterTypeUrls } from './extension-configs.ts';
import { configType } from './proto-definitions.ts';
import { typeUrls } from './type-urls.ts';

/** Where a backend listens. */
export interface Endpoint {
  /** Default 127.0.0.1. */
  readonly address?: string;
  readonly port: number;
}

/** An HTTP listener of the gateway. */
export interface HttpListenerOptions {
  /** Default `127.0.0.1_<port>`. */
  readonly name?: string;
  /** The port on 127.0.0.1 that Envoy listens on. */
  readonly port: number;
  /** Resource names of the ECDS filters, in the order in which a request passes them. */
  readonly filters?: readonly string[];
  /** Default `http.<port>`. */
  readonly routeName?: string;
  /** Default: plaintext. */
  readonly tls?: MutualTls;
}

/** Mutual TLS with secrets from the agent, as istiod asks for it. */
export interface MutualTls {
  /** SDS name of key and chain; default `default`. */
  readonly certificate?: string;
  /** SDS name of the roots; default `ROOTCA`. */
  readonly roots?: string;
  /** The bootstrap's cluster that `roots` come from; default `sds-grpc`, where `certificate` always comes from. */
  readonly rootsCluster?: string;
}

/** A TCP listener of the gateway. */
export interface TcpListenerOptions {
  readonly name?: string;
  readonly port: number;
  /** Resource names of the ECDS network filters, before the TCP proxy. */
  readonly filters?: readonly string[];
  readonly cluster: string;
}

const adsSource = { ads: {}, initial_fetch_timeout: { seconds: 0 }, resource_api_version: 'V3' };

/** An HTTP listener with ECDS filters, the router, and its routes from RDS. */
export function httpListener(options: HttpListenerOptions): Resource {
  const { port, filters = [], routeName = `http.${port}` } = options;
  const connectionManager = {
    stat_prefix: `outbound_127.0.0.1_${port}`,
    rds: { config_source: adsSource, route_config_name: routeName },
    http_filters: [
      ...filters.map((name) => extensionFilter(name, [filterTypeUrls.httpWasm, filterTypeUrls.httpRbac])),
      {
        name: 'envoy.filters.http.router',
        typed_config: packed('envoy.extensions.filters.http.router.v3.Router', {}),
      },
    ],
  };
  return listener(options, [
    {
      name: 'envoy.filters.network.http_connection_manager',
      typed_config: packed(
        'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
        connectionManager,
      ),
    },
  ]);
}

/** A TCP listener with ECDS network filters before a TCP proxy. */
export function tcpListener(options: TcpListenerOptions): Resource {
  const { filters = [], cluster } = options;
  return listener(options, [
    ...filters.map((name) => extensionFilter(name, [filterTypeUrls.networkWasm, filterTypeUrls.networkRbac])),
    {
      name: 'envoy.filters.network.tcp_proxy',
      typed_config: packed('envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy', {
        stat_prefix: cluster,
        cluster,
      }),
    },
  ]);
}

/** A route table that sends every request of every host to one cluster. */
export function routeToCluster(name: string, cluster: string): Resource {
  return configResource(name, typeUrls.rds, 'envoy.config.route.v3.RouteConfiguration', {
    name,
    virtual_hosts: [
      {
        name: `*:${name}`,
        domains: ['*'],
        routes: [{ match: { prefix: '/' }, route: { cluster, timeout: { seconds: 0 } } }],
      },
    ],
    validate_clusters: { value: false },
  });
}

/** A cluster whose endpoints are part of it. */
export function staticCluster(name: string, ...endpoints: readonly Endpoint[]): Resource {
  return configResource(name, typeUrls.cds, 'envoy.config.cluster.v3.Cluster', {
    name,
    type: 'STATIC',
    connect_timeout: { seconds: 1 },
    load_assignment: loadAssignment(name, endpoints),
  });
}

/** A cluster whose endpoints come through EDS under the cluster's own name. */
export function edsCluster(name: string): Resource {
  return configResource(name, typeUrls.cds, 'envoy.config.cluster.v3.Cluster', {
    name,
    type: 'EDS',
    connect_timeout: { seconds: 1 },
    eds_cluster_config: { eds_config: adsSource, service_name: name },
  });
}

/** The EDS resource of a cluster made with `edsCluster`. */
export function clusterEndpoints(cluster: string, ...endpoints: readonly Endpoint[]): Resource {
  return configResource(
    cluster,
    typeUrls.eds,
    'envoy.config.endpoint.v3.ClusterLoadAssignment',
    loadAssignment(cluster, endpoints),
  );
}

function listener(
  options: { readonly name?: string; readonly port: number; readonly tls?: MutualTls },
  filters: readonly object[],
): Resource {
  const socket = options.tls === undefined ? {} : { transport_socket: mutualTlsSocket(options.tls) };
  const name = options.name ?? `127.0.0.1_${options.port}`;
  return configResource(name, typeUrls.lds, 'envoy.config.listener.v3.Listener', {
    name,
    address: { socket_address: { address: '127.0.0.1', port_value: options.port } },
    filter_chains: [{ filters, ...socket }],
    traffic_direction: 'OUTBOUND',
  });
}

/** As istiod writes it (istio/istio `pilot/pkg/security/model/authentication.go`). */
function mutualTlsSocket(tls: MutualTls): object {
  const { certificate = 'default', roots = 'ROOTCA', rootsCluster = 'sds-grpc' } = tls;
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: packed('envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext', {
      require_client_certificate: { value: true },
      common_tls_context: {
        tls_certificate_sds_secret_configs: [{ name: certificate, sds_config: sdsSource('sds-grpc') }],
        validation_context_sds_secret_config: { name: roots, sds_config: sdsSource(rootsCluster) },
      },
    }),
  };
}

function sdsSource(cluster: string): object {
  return {
    api_config_source: {
      api_type: 'GRPC',
      transport_api_version: 'V3',
      set_node_on_first_message_only: true,
      grpc_services: [{ envoy_grpc: { cluster_name: cluster } }],
    },
    initial_fetch_timeout: { seconds: 0 },
    resource_api_version: 'V3',
  };
}

function extensionFilter(name: string, allowedTypes: readonly string[]): object {
  return { name, config_discovery: { config_source: adsSource, type_urls: allowedTypes } };
}

function loadAssignment(cluster: string, endpoints: readonly Endpoint[]): object {
  return {
    cluster_name: cluster,
    endpoints: [
      {
        lb_endpoints: endpoints.map(({ address = '127.0.0.1', port }) => ({
          endpoint: { address: { socket_address: { address, port_value: port } } },
        })),
      },
    ],
  };
}

function packed(type: string, message: object): object {
  return { type_url: `type.googleapis.com/${type}`, value: configType(type).serialize(message) };
}

function configResource(name: string, typeUrl: string, type: string, message: object): Resource {
  return { name, typeUrl, value: configType(type).serialize(message) };
}
