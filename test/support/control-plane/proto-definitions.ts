/**
 * Envoy's message types, loaded by @grpc/proto-loader from the `.proto` files inside @grpc/grpc-js-xds: a codec that
 * shares nothing with the one under test. It drops unknown fields, so it encodes and reads, but never rewrites.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { loadSync, type MessageTypeDefinition, type PackageDefinition } from '@grpc/proto-loader';

const depsFolder = join(
  dirname(createRequire(import.meta.url).resolve('@grpc/grpc-js-xds/package.json')),
  'deps',
);
const includeDirs = ['envoy-api', 'googleapis', 'protoc-gen-validate', 'xds'].map((name) =>
  join(depsFolder, name),
);

/** Parsing costs about 80 ms for the first set and 140 ms for the second, so each is loaded when first used. */
const discoveryFiles = ['envoy/service/discovery/v3/discovery.proto'];
const configFiles = [
  'envoy/config/cluster/v3/cluster.proto',
  'envoy/config/endpoint/v3/endpoint.proto',
  'envoy/config/listener/v3/listener.proto',
  'envoy/config/route/v3/route.proto',
  'envoy/extensions/filters/http/router/v3/router.proto',
  'envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto',
  'envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto',
  'envoy/extensions/transport_sockets/tls/v3/tls.proto',
];

let discoveryDefinitions: PackageDefinition | undefined;
let configDefinitions: PackageDefinition | undefined;

/** A type of the discovery service, such as `envoy.service.discovery.v3.DiscoveryRequest`. */
export function discoveryType(name: string): MessageTypeDefinition<object, object> {
  discoveryDefinitions ??= load(discoveryFiles);
  return messageType(discoveryDefinitions, name);
}

/** A type of Envoy's configuration, such as `envoy.config.listener.v3.Listener`. */
export function configType(name: string): MessageTypeDefinition<object, object> {
  configDefinitions ??= load(configFiles);
  return messageType(configDefinitions, name);
}

function load(files: string[]): PackageDefinition {
  return loadSync(files, {
    keepCase: true,
    longs: Number,
    enums: String,
    defaults: true,
    arrays: true,
    objects: true,
    includeDirs,
  });
}

function messageType(definitions: PackageDefinition, name: string): MessageTypeDefinition<object, object> {
  const definition = definitions[name];
  if (definition === undefined || !('serialize' in definition)) {
    throw new TypeError(`no message type ${name} is loaded; add its file to proto-definitions.ts`);
  }
  return definition as MessageTypeDefinition<object, object>;
}
