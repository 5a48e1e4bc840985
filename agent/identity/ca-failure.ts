import type { CaConfig } from '../config/identity-config.ts';
import { describeError } from '../log.ts';
import { DialError } from '../xds/dial-error.ts';
import { type GrpcStatus, grpcCode } from '../xds/grpc-status.ts';

/** Why there was no connection to the CA, and which of the CA's own settings to look at. */
export function describeUnreachable(config: CaConfig, error: unknown): string {
  const { address } = config;
  if (!(error instanceof DialError))
    return `failed to connect to the CA at ${address}: ${describeError(error)}`;
  const cause = describeError(error.cause ?? error);
  switch (error.code) {
    case 'bad_address':
      return `the address "${address}" of the CA is not host:port: set CA_ADDR, or discoveryAddress in the proxy config`;
    case 'bad_root':
      return `${describeRoot(config)} cannot be used: ${error.cause === undefined ? 'it holds no readable PEM certificate' : cause}; provide it, or set CA_ROOT_CA`;
    case 'connect':
      return `failed to connect to the CA at ${address}: ${cause}; check CA_ADDR (or discoveryAddress) and that the CA is running`;
    case 'tls':
      return `TLS handshake with the CA at ${address} failed: ${cause}; check that ${describeRoot(config)} is the one of the CA, and that its certificate is for ${config.tls?.serverName ?? address}`;
    case 'timeout':
    case 'preface':
      return `failed to connect to the CA: ${error.message}`;
    default:
      return error.code satisfies never;
  }
}

function describeRoot({ tls, address }: CaConfig): string {
  const root = tls?.root.kind === 'file' ? tls.root.path : 'the root store of the system';
  return `the root certificate for the CA at ${address} (${root})`;
}

/** What a status of the CA means for whoever runs the pod. */
export function describeRefusal(config: CaConfig, status: GrpcStatus): string {
  const code = codeNames[status.code] ?? `code ${status.code}`;
  const text = status.message === '' ? '' : `: ${status.message}`;
  return `the CA at ${config.address} did not sign the certificate (${code})${text}${remedy(config, status.code)}`;
}

function remedy({ tokenPath }: CaConfig, code: number): string {
  switch (code) {
    case grpcCode.unauthenticated:
      return `; check the token at ${tokenPath} (audience, expiry) and the cluster id`;
    case grpcCode.permissionDenied:
      return '; check that the CA allows this workload, and CA_HEADER_*';
    case grpcCode.unimplemented:
      return '; there is no CA at this address: set CA_ADDR';
    default:
      return '';
  }
}

/** Index is the code (grpc `doc/statuscodes.md`). */
const codeNames = [
  'OK',
  'CANCELLED',
  'UNKNOWN',
  'INVALID_ARGUMENT',
  'DEADLINE_EXCEEDED',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
  'UNAUTHENTICATED',
];
