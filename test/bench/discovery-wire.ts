/**
 * What the load side needs to know of the discovery messages of both variants.
 * Source: envoyproxy/envoy `api/envoy/service/discovery/v3/discovery.proto`.
 */
import { ProtoWriter } from '../support/control-plane/proto-writer.ts';

/** Incremental, or state of the world. */
export type XdsMode = 'delta' | 'sotw';

const service = '/envoy.service.discovery.v3.AggregatedDiscoveryService';

/** The gRPC method of a variant. */
export function adsPath(mode: XdsMode): string {
  return `${service}/${mode === 'delta' ? 'DeltaAggregatedResources' : 'StreamAggregatedResources'}`;
}

/** Field numbers of a request. */
export const requestFields = {
  delta: { node: 1, typeUrl: 2, names: 3, nonce: 6, error: 7 },
  sotw: { node: 2, typeUrl: 4, names: 3, nonce: 5, error: 6 },
} as const;

/** Field numbers of a response: the same in both variants. */
export const responseFields = { version: 1, resources: 2, typeUrl: 4, nonce: 5 } as const;

/** The version of all pushes: in the form istiod uses, of constant length. */
export const pushVersion = '2026-01-01T00:00:00Z/1';

/** The first request of a stream for a type. */
export function encodeSubscribe(
  mode: XdsMode,
  options: { readonly typeUrl: string; readonly names: readonly string[]; readonly nodeId?: string },
): Buffer {
  const writer = new ProtoWriter();
  const fields = requestFields[mode];
  const node = options.nodeId === undefined ? undefined : new ProtoWriter().text(1, options.nodeId);
  // Fields in the order of their numbers, which differ between the variants.
  if (mode === 'delta') {
    if (node !== undefined) writer.message(fields.node, node);
    writer.text(fields.typeUrl, options.typeUrl);
    for (const name of options.names) writer.text(fields.names, name);
    return writer.finish();
  }
  if (node !== undefined) writer.message(fields.node, node);
  for (const name of options.names) writer.text(fields.names, name);
  return writer.text(fields.typeUrl, options.typeUrl).finish();
}

/** An ACK as Envoy sends it: incremental ones carry only type and nonce. */
export function encodeAck(
  mode: XdsMode,
  options: { readonly typeUrl: string; readonly names: readonly string[]; readonly nonce: string },
): Buffer {
  const fields = requestFields[mode];
  if (mode === 'delta') {
    return new ProtoWriter().text(fields.typeUrl, options.typeUrl).text(fields.nonce, options.nonce).finish();
  }
  const writer = new ProtoWriter().text(1, pushVersion);
  for (const name of options.names) writer.text(fields.names, name);
  return writer.text(fields.typeUrl, options.typeUrl).text(fields.nonce, options.nonce).finish();
}
