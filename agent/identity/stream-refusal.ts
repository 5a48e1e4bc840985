import { WireFormatError } from '../../proto/wire.ts';
import { describeError } from '../log.ts';
import type { FrameFault } from '../xds/frames.ts';
import { type GrpcStatus, grpcCode } from '../xds/grpc-status.ts';

/** Nothing is answered on a stream any more; code and message are for the client. */
export class StreamRefusal extends Error {
  override readonly name = 'StreamRefusal';
  readonly status: GrpcStatus;

  constructor(code: number, message: string) {
    super(message);
    this.status = { code, message };
  }
}

/** How a stream ends when the work on it has failed. */
export function statusOfRefusal(error: unknown): GrpcStatus {
  if (error instanceof StreamRefusal) return error.status;
  if (error instanceof WireFormatError) {
    return { code: grpcCode.internal, message: `the request is no DiscoveryRequest: ${error.message}` };
  }
  return { code: grpcCode.unknown, message: describeError(error) };
}

/** How a stream ends whose framing cannot be read. */
export function statusOfFault(fault: FrameFault): GrpcStatus {
  switch (fault.code) {
    case 'compressed':
      return {
        code: grpcCode.unimplemented,
        message: `a request with compressed flag ${fault.flag}: no compression is supported`,
      };
    case 'too-large':
      return {
        code: grpcCode.resourceExhausted,
        message: `a request of ${fault.lengthBytes} bytes, the bound is ${fault.maxBytes} bytes`,
      };
    default:
      return fault satisfies never;
  }
}
