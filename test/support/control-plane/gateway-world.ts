/**
 * A whole world in one call: one listener of an ingress gateway with its ECDS filters, its route and its backend.
 */

import type { Resource } from './discovery-messages.ts';
import { inFilterOrder, type WasmPlugin } from './extension-configs.ts';
import {
  clusterEndpoints,
  edsCluster,
  httpListener,
  type MutualTls,
  routeToCluster,
  staticCluster,
  tcpListener,
} from './gateway-resources.ts';
import { World } from './world.ts';

/** What a gateway world is made of. */
export interface GatewayWorldOptions {
  /** The port on 127.0.0.1 that Envoy serves. */
  readonly listenerPort: number;
  /** The port on 127.0.0.1 that the route leads to. */
  readonly backendPort: number;
  /** An HTTP listener with routes (default), or a TCP listener whose plugins are network filters. */
  readonly kind?: 'http' | 'tcp';
  /** Where the cluster's endpoints come from. Default `static`. */
  readonly endpoints?: 'static' | 'eds';
  /** Their filters stand in the order of phase and priority, before those of `extensions`. */
  readonly plugins?: readonly WasmPlugin[];
  /** Other ECDS resources, with a filter each, in this order. */
  readonly extensions?: readonly Resource[];
  /** ECDS filters without a resource: the listener waits for them until one comes. */
  readonly pendingFilters?: readonly string[];
  /** Of an HTTP listener; default: plaintext. */
  readonly tls?: MutualTls;
}

/** The one cluster of a gateway world. */
export const backendCluster = 'outbound|80||backend.default.svc.cluster.local';

/** Makes listener, route table, cluster, endpoints and ECDS resources that belong together. */
export function gatewayWorld(options: GatewayWorldOptions): World {
  const { listenerPort: port, backendPort, kind = 'http', endpoints = 'static' } = options;
  const plugins = options.plugins ?? [];
  const extensions = options.extensions ?? [];
  const filters = [
    ...inFilterOrder(plugins).map((plugin) => plugin.name),
    ...extensions.map((resource) => resource.name),
    ...(options.pendingFilters ?? []),
  ];
  return World.of(
    ...(endpoints === 'static'
      ? [staticCluster(backendCluster, { port: backendPort })]
      : [edsCluster(backendCluster), clusterEndpoints(backendCluster, { port: backendPort })]),
    ...(kind === 'http'
      ? [
          httpListener({ port, filters, ...(options.tls === undefined ? {} : { tls: options.tls }) }),
          routeToCluster(`http.${port}`, backendCluster),
        ]
      : [tcpListener({ port, filters, cluster: backendCluster })]),
    ...plugins.map((plugin) => plugin.resource),
    ...extensions,
  );
}
