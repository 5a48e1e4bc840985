import type { AnyMessage } from '../../proto/any-message.ts';
import { typeUrls } from '../../proto/type-urls.ts';
import type { FilterKind } from './filter-config.ts';

/** What stands in for a plugin that cannot be had: `allow` lets all traffic pass, `deny` none. */
export type FallbackAction = 'allow' | 'deny';

/**
 * The RBAC filters the stock agent puts in place of a module it could not fetch (istio/istio `pkg/wasm/convert.go`),
 * as constant bytes: the messages themselves would pull in most of Envoy's API. `deny` holds a present and empty
 * `rules` field (action ALLOW, no policy), which admits nobody; without `rules` the filter admits everybody.
 */
const rulesField = '0a00';
const filterBytes: Readonly<Record<FilterKind, Record<FallbackAction, Uint8Array>>> = {
  // envoy.extensions.filters.http.rbac.v3.RBAC: rules 1, rules_stat_prefix 6
  http: {
    allow: statPrefix(0x32, 'wasm-default-allow'),
    deny: Buffer.concat([Buffer.from(rulesField, 'hex'), statPrefix(0x32, 'wasm-default-deny')]),
  },
  // envoy.extensions.filters.network.rbac.v3.RBAC: rules 1, stat_prefix 3
  network: {
    allow: statPrefix(0x1a, 'wasm-default-allow'),
    deny: Buffer.concat([Buffer.from(rulesField, 'hex'), statPrefix(0x1a, 'wasm-default-deny')]),
  },
};

function statPrefix(tag: number, text: string): Uint8Array {
  return Buffer.concat([Buffer.from([tag, text.length]), Buffer.from(text)]);
}

/** The replacement filter's type and bytes, for `TypedExtensionConfig.typed_config`. The bytes are shared: read only. */
export function fallbackFilter(kind: FilterKind, action: FallbackAction): AnyMessage {
  return {
    typeUrl: kind === 'http' ? typeUrls.httpRbac : typeUrls.networkRbac,
    value: filterBytes[kind][action],
  };
}
