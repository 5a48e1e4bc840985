/**
 * True for the address of a peer on this machine: 127.0.0.0/8, ::1, and the first as a dual-stack socket reports it.
 * Only the TCP address counts, never a header. Source: istio/istio `pkg/util/net/ip.go`, IsRequestFromLocalhost.
 */
export function isLoopbackAddress(address: string | undefined): boolean {
  if (address === undefined) return false;
  return address === '::1' || /^(?:::ffff:)?127(?:\.\d{1,3}){3}$/i.test(address);
}
