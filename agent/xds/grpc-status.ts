/** The gRPC status codes the relay makes itself (grpc `doc/statuscodes.md`). */
export const grpcCode = {
  ok: 0,
  cancelled: 1,
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  permissionDenied: 7,
  resourceExhausted: 8,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const;

/** How a gRPC stream ends. `code` is a number because a peer's own codes are passed on as they are. */
export interface GrpcStatus {
  readonly code: number;
  readonly message: string;
}
