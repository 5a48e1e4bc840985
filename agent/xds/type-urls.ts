const prefix = 'type.googleapis.com/';

/** Listeners (LDS). The agent's own subscriptions follow the first request for it. */
export const listenerTypeUrl = `${prefix}envoy.config.listener.v3.Listener`;

/**
 * Whether a response of this type goes down to Envoy; the rest is dropped, because an Envoy that gets a type it does
 * not know ends its stream. Rule of the stock agent: `pkg/istio-agent/xds_proxy.go`, `forwardToEnvoy`.
 */
export function isForwardedToEnvoy(typeUrl: string): boolean {
  return typeUrl.startsWith(`${prefix}envoy.`) || typeUrl === `${prefix}istio.workload.Workload`;
}
