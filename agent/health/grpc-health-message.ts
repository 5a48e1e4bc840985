import { MessageWriter, readFields } from '../../proto/wire.ts';

/** The health service of gRPC (grpc-proto `grpc/health/v1/health.proto`). */
export const healthCheckPath = '/grpc.health.v1.Health/Check';

/** What a server says of one of its services; a number that a newer server may send is kept. */
export type ServingStatus = 'UNKNOWN' | 'SERVING' | 'NOT_SERVING' | 'SERVICE_UNKNOWN' | `status ${number}`;

const statusNames = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'] as const;

/** `HealthCheckRequest`; the empty service is the server as a whole. */
export function encodeHealthRequest(service: string): Buffer {
  const writer = new MessageWriter();
  return (service === '' ? writer : writer.text(1, service)).finish();
}

/** The status of a `HealthCheckResponse`. Throws WireFormatError. */
export function decodeHealthResponse(message: Buffer): ServingStatus {
  let status = 0;
  for (const field of readFields(message)) {
    if (field.number === 1 && field.kind === 'varint') status = field.value;
  }
  return statusNames[status] ?? `status ${status}`;
}
