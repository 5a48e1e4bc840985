import type { Resource } from '../support/control-plane/discovery-messages.ts';
import { configType } from '../support/control-plane/proto-definitions.ts';
import { typeUrls } from '../support/control-plane/type-urls.ts';
import { World } from '../support/control-plane/world.ts';

/** A service that applications reach by `xds:///<name>`, with one endpoint on 127.0.0.1. */
export function proxylessWorld(name: string, port: number): World {
  const cluster = `outbound|80||${name}`;
  const managerType = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager';
  const routerType = 'envoy.extensions.filters.http.router.v3.Router';
  const ads = { ads: {}, resource_api_version: 'V3' };
  const manager = {
    rds: { config_source: ads, route_config_name: name },
    http_filters: [{ name: 'router', typed_config: packed(routerType, {}) }],
  };
  return World.of(
    resource(name, typeUrls.lds, 'envoy.config.listener.v3.Listener', {
      name,
      api_listener: { api_listener: packed(managerType, manager) },
    }),
    resource(name, typeUrls.rds, 'envoy.config.route.v3.RouteConfiguration', {
      name,
      virtual_hosts: [
        {
          name,
          domains: ['*'],
          routes: [{ match: { prefix: '' }, route: { cluster, timeout: { seconds: 0 } } }],
        },
      ],
    }),
    resource(cluster, typeUrls.cds, 'envoy.config.cluster.v3.Cluster', {
      name: cluster,
      type: 'EDS',
      eds_cluster_config: { eds_config: ads, service_name: cluster },
    }),
    resource(cluster, typeUrls.eds, 'envoy.config.endpoint.v3.ClusterLoadAssignment', {
      cluster_name: cluster,
      endpoints: [
        {
          locality: { region: 'r', zone: 'z' },
          load_balancing_weight: { value: 1 },
          lb_endpoints: [
            {
              load_balancing_weight: { value: 1 },
              endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } },
            },
          ],
        },
      ],
    }),
  );
}

function packed(type: string, message: object): object {
  return { type_url: `type.googleapis.com/${type}`, value: configType(type).serialize(message) };
}

function resource(name: string, typeUrl: string, type: string, message: object): Resource {
  return { name, typeUrl, value: configType(type).serialize(message) };
}
