const prefix = 'type.googleapis.com/';

/** Type URLs that decide what happens to a message. Compared whole, as the stock agent does. */
export const typeUrls = {
  extensionConfig: `${prefix}envoy.config.core.v3.TypedExtensionConfig`,
  httpWasm: `${prefix}envoy.extensions.filters.http.wasm.v3.Wasm`,
  networkWasm: `${prefix}envoy.extensions.filters.network.wasm.v3.Wasm`,
  httpRbac: `${prefix}envoy.extensions.filters.http.rbac.v3.RBAC`,
  networkRbac: `${prefix}envoy.extensions.filters.network.rbac.v3.RBAC`,
  udpaTypedStruct: `${prefix}udpa.type.v1.TypedStruct`,
  xdsTypedStruct: `${prefix}xds.type.v3.TypedStruct`,
} as const;
