import type { FieldType, MessageFields } from './message-schema.ts';

/**
 * The fields of `istio.mesh.v1alpha1.ProxyConfig` and of what it holds
 * (istio/api `mesh/v1alpha1/proxy.proto`, `networking/v1alpha3/{destination_rule,workload_group}.proto`).
 */

const text: FieldType = { kind: 'text' };
const boolean: FieldType = { kind: 'boolean' };
const int32: FieldType = { kind: 'integer', minimum: -2_147_483_648, maximum: 2_147_483_647 };
const uint32: FieldType = { kind: 'integer', minimum: 0, maximum: 4_294_967_295 };
const boolValue: FieldType = { kind: 'boolean', isOptional: true };
const int32Value: FieldType = { ...int32, isOptional: true };
const long: FieldType = { kind: 'long' };
const duration: FieldType = { kind: 'duration' };

const message = (fields: MessageFields): FieldType => ({ kind: 'message', fields });
const list = (item: FieldType): FieldType => ({ kind: 'list', item });
const map = (value: FieldType): FieldType => ({ kind: 'map', value });
const enumeration = (...names: readonly string[]): FieldType => ({ kind: 'enum', names });

const clientTlsSettings = message({
  mode: enumeration('DISABLE', 'SIMPLE', 'MUTUAL', 'ISTIO_MUTUAL'),
  clientCertificate: text,
  privateKey: text,
  caCertificates: text,
  credentialName: text,
  subjectAltNames: list(text),
  sni: text,
  insecureSkipVerify: boolValue,
  caCrl: text,
});

const remoteService = message({
  address: text,
  tlsSettings: clientTlsSettings,
  tcpKeepalive: message({ probes: uint32, time: duration, interval: duration }),
});

const tagSource = message({ name: text, defaultValue: text });

const tracing = message({
  zipkin: message({ address: text }),
  lightstep: message({ address: text, accessToken: { kind: 'text', isSecret: true } }),
  datadog: message({ address: text }),
  stackdriver: message({
    debug: boolean,
    maxNumberOfAttributes: long,
    maxNumberOfAnnotations: long,
    maxNumberOfMessageEvents: long,
  }),
  openCensusAgent: message({
    address: text,
    context: list(enumeration('UNSPECIFIED', 'W3C_TRACE_CONTEXT', 'GRPC_BIN', 'CLOUD_TRACE_CONTEXT', 'B3')),
  }),
  customTags: map(message({ literal: message({ value: text }), environment: tagSource, header: tagSource })),
  maxPathTagLength: uint32,
  sampling: { kind: 'number' },
  tlsSettings: clientTlsSettings,
  enableIstioTags: boolValue,
});

const forwardClientCertDetails = enumeration(
  'UNDEFINED',
  'SANITIZE',
  'FORWARD_ONLY',
  'APPEND_FORWARD',
  'SANITIZE_SET',
  'ALWAYS_FORWARD_ONLY',
);

const readinessProbe = message({
  initialDelaySeconds: int32,
  timeoutSeconds: int32,
  periodSeconds: int32,
  successThreshold: int32,
  failureThreshold: int32,
  httpGet: message({
    path: text,
    port: uint32,
    host: text,
    scheme: text,
    httpHeaders: list(message({ name: text, value: text })),
  }),
  tcpSocket: message({ host: text, port: uint32 }),
  exec: message({ command: list(text) }),
  grpc: message({ port: uint32, service: text }),
});

const keyProvider = message({ pollDelay: duration, fallback: boolValue });
const disabled = message({ disabled: boolValue });
const enabled = message({ enabled: boolValue });

const proxyHeaders = message({
  forwardedClientCert: forwardClientCertDetails,
  setCurrentClientCertDetails: message({
    subject: boolValue,
    cert: boolValue,
    chain: boolValue,
    dns: boolValue,
    uri: boolValue,
  }),
  requestId: disabled,
  server: message({ disabled: boolValue, value: text }),
  attemptCount: disabled,
  envoyDebugHeaders: disabled,
  metadataExchangeHeaders: message({ mode: enumeration('UNDEFINED', 'IN_MESH') }),
  preserveHttp1HeaderCase: boolValue,
  xForwardedHost: enabled,
  xForwardedPort: enabled,
});

const connectionSettings = message({
  profile: enumeration('SIDECAR', 'EDGE'),
  listenerPerConnectionBufferLimitBytes: int32Value,
  clusterPerConnectionBufferLimitBytes: int32Value,
  httpIdleTimeout: duration,
  httpMaxConnectionDuration: duration,
  httpDrainTimeout: duration,
  httpRequestTimeout: duration,
  httpRequestHeadersTimeout: duration,
  httpStreamIdleTimeout: duration,
  httpMaxStreamDuration: duration,
  httpMaxConcurrentStreams: int32Value,
  http2InitialStreamWindowSize: int32Value,
  http2InitialConnectionWindowSize: int32Value,
  httpHeadersWithUnderscoresAction: enumeration(
    'HEADERS_WITH_UNDERSCORES_UNSPECIFIED',
    'HEADERS_WITH_UNDERSCORES_ALLOW',
    'HEADERS_WITH_UNDERSCORES_REJECT_REQUEST',
    'HEADERS_WITH_UNDERSCORES_DROP_HEADER',
  ),
  httpMergeSlashes: boolValue,
  httpPathWithEscapedSlashesAction: enumeration(
    'PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED',
    'KEEP_UNCHANGED',
    'REJECT_REQUEST',
    'UNESCAPE_AND_REDIRECT',
    'UNESCAPE_AND_FORWARD',
  ),
  listenerConnectionLimit: int32Value,
  globalDownstreamConnectionLimit: int32Value,
});

export const proxyConfigFields: MessageFields = {
  configPath: text,
  binaryPath: text,
  // Members of one oneof: setting one unsets the other.
  serviceCluster: { kind: 'text', isOptional: true },
  tracingServiceName: {
    kind: 'enum',
    names: ['APP_LABEL_AND_NAMESPACE', 'CANONICAL_NAME_ONLY', 'CANONICAL_NAME_AND_NAMESPACE'],
    isOptional: true,
  },
  drainDuration: duration,
  discoveryAddress: text,
  discoveryRefreshDelay: duration,
  zipkinAddress: text,
  statsdUdpAddress: text,
  envoyMetricsServiceAddress: text,
  proxyAdminPort: int32,
  availabilityZone: text,
  controlPlaneAuthPolicy: { kind: 'enum', names: ['NONE', 'MUTUAL_TLS', 'INHERIT'], numbers: [0, 1, 1000] },
  customConfigFile: text,
  statNameLength: int32,
  concurrency: int32Value,
  proxyBootstrapTemplatePath: text,
  interceptionMode: enumeration('REDIRECT', 'TPROXY', 'NONE'),
  tracing,
  sds: message({ enabled: boolean, k8sSaJwtPath: text }),
  envoyAccessLogService: remoteService,
  envoyMetricsService: remoteService,
  proxyMetadata: map(text),
  runtimeValues: map(text),
  statusPort: int32,
  extraStatTags: list(text),
  gatewayTopology: message({
    numTrustedProxies: uint32,
    forwardClientCertDetails,
    proxyProtocol: message({}),
  }),
  terminationDrainDuration: duration,
  meshId: text,
  readinessProbe,
  proxyStatsMatcher: message({
    inclusionPrefixes: list(text),
    inclusionSuffixes: list(text),
    inclusionRegexps: list(text),
  }),
  holdApplicationUntilProxyStarts: boolValue,
  caCertificatesPem: list(text),
  image: message({ imageType: text }),
  privateKeyProvider: message({ cryptomb: keyProvider, qat: keyProvider }),
  proxyHeaders,
  fileFlushInterval: duration,
  fileFlushMinSizeKb: uint32,
  statsCompression: boolValue,
  connectionSettings,
};
