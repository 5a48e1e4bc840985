/**
 * The resource types a control plane serves, with the short names that istiod's metrics use for them.
 * Source: istio/istio `pkg/model/xds.go`, `pilot/pkg/xds/ads.go` (PushOrder), `pkg/xds/server.go` (IsWildcardTypeURL).
 */

/** Type URL by short name. */
export const typeUrls = {
  cds: 'type.googleapis.com/envoy.config.cluster.v3.Cluster',
  eds: 'type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment',
  lds: 'type.googleapis.com/envoy.config.listener.v3.Listener',
  rds: 'type.googleapis.com/envoy.config.route.v3.RouteConfiguration',
  ecds: 'type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig',
  sds: 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret',
  nds: 'type.googleapis.com/istio.networking.nds.v1.NameTable',
  pcds: 'type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig',
  health: 'type.googleapis.com/istio.v1.HealthInformation',
} as const;

/** A short name of `typeUrls`. */
export type XdsType = keyof typeof typeUrls;

/** Order within one push; types that are not listed follow in the order of their first subscription. */
const pushOrder: readonly string[] = [typeUrls.cds, typeUrls.eds, typeUrls.lds, typeUrls.rds, typeUrls.sds];

const namedTypes: ReadonlySet<string> = new Set([typeUrls.sds, typeUrls.eds, typeUrls.rds, typeUrls.ecds]);

/** The type URL of a short name; a text that is already a URL stays as it is. */
export function typeUrlOf(type: XdsType | (string & {})): string {
  return isXdsType(type) ? typeUrls[type] : type;
}

/** The short name, as the `type` label of istiod's metrics has it; an unknown URL stays as it is. */
export function shortTypeOf(typeUrl: string): string {
  return Object.entries(typeUrls).find(([, url]) => url === typeUrl)?.[0] ?? typeUrl;
}

/** True for a type whose subscription without names means all of them (CDS, LDS, Istio's own types). */
export function isWildcardType(typeUrl: string): boolean {
  return !namedTypes.has(typeUrl);
}

/** Sorts type URLs into the order in which one push sends them; stable for the unordered rest. */
export function inPushOrder(urls: Iterable<string>): string[] {
  const rank = (url: string): number => {
    const index = pushOrder.indexOf(url);
    return index === -1 ? pushOrder.length : index;
  };
  return [...urls].sort((a, b) => rank(a) - rank(b));
}

function isXdsType(text: string): text is XdsType {
  return Object.hasOwn(typeUrls, text);
}
