/** Names that the transport owns: a configured header must not replace them (grpc-go `isReservedHeader`, RFC 9113 8.2.2). */
export const reservedNames: ReadonlySet<string> = new Set([
  'authorization',
  'clusterid',
  'connection',
  'content-length',
  'content-type',
  'host',
  'http2-settings',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'user-agent',
]);
