import type { GrpcStatus } from './grpc-status.ts';
import type { EndClass } from './upstream-end.ts';

/** Who ended an exchange first; the other side's end is only its consequence and is not counted. */
export type EndSide = 'istiod' | 'envoy' | 'agent';

/** How one Envoy stream and its istiod stream ended. */
export interface StreamEnd {
  readonly side: EndSide;
  readonly class: EndClass;
  /** What Envoy is sent, if it is still there. */
  readonly status: GrpcStatus;
}
