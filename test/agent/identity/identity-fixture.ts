import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Clock } from '../../../agent/clock.ts';
import { ConfigReport } from '../../../agent/config/config-report.ts';
import type { IdentityConfig } from '../../../agent/config/identity-config.ts';
import { type IdentityValues, readIdentityConfig } from '../../../agent/config/identity-settings.ts';
import { WorkloadIdentity } from '../../../agent/identity/identity.ts';
import { atEnd } from '../../support/test-end.ts';
import { LogCapture, MetricsCapture } from './sds-fixture.ts';

/** Every variable as it is when it is not set. */
export const defaultValues: IdentityValues = {
  CA_ADDR: '',
  CA_PROVIDER: 'Citadel',
  CA_ROOT_CA: '',
  CREDENTIAL_FETCHER_TYPE: 'JWT',
  DISABLE_ENVOY: false,
  ECC_CURVE: 'P256',
  ECC_SIGNATURE_ALGORITHM: '',
  FILE_DEBOUNCE_DURATION: 100,
  FILE_MOUNTED_CERTS: false,
  GRPC_KEEPALIVE_INTERVAL: 30_000,
  GRPC_KEEPALIVE_TIMEOUT: 10_000,
  ISTIOD_SAN: '',
  ISTIO_META_CERT_SIGNER: '',
  ISTIO_META_CLUSTER_ID: '',
  KUBERNETES_SERVICE_HOST: '',
  OUTPUT_CERTS: '',
  PILOT_CERT_PROVIDER: 'istiod',
  PILOT_ENABLE_CA_CRL: true,
  PKCS8_KEY: false,
  POD_NAMESPACE: '',
  PROV_CERT: '',
  SECRET_GRACE_PERIOD_RATIO: 0.5,
  SECRET_GRACE_PERIOD_RATIO_JITTER: 0.01,
  SECRET_TTL: 86_400_000,
  SERVICE_ACCOUNT: '',
  TRUST_DOMAIN: 'cluster.local',
  WORKLOAD_IDENTITY_SOCKET_FILE: 'socket',
  WORKLOAD_RSA_KEY_SIZE: 2048,
};

export interface IdentityFixture {
  readonly identity: WorkloadIdentity;
  readonly config: IdentityConfig;
  readonly logs: LogCapture;
  readonly capture: MetricsCapture;
  /** Where Envoy asks. */
  readonly socketPath: string;
}

/**
 * The whole certificate side of a pod whose folder is `root`, not yet started. ECDSA keys and a short debounce unless
 * `values` says otherwise: they cost a test nothing.
 */
export async function makeIdentity(
  t: TestContext,
  root: string,
  options: {
    readonly discoveryAddress?: string;
    readonly values?: Partial<IdentityValues>;
    readonly areWorkloadCertificatesPresent?: boolean;
    readonly change?: (config: IdentityConfig) => IdentityConfig;
    readonly clock?: Clock;
  } = {},
): Promise<IdentityFixture> {
  const report = new ConfigReport();
  const read = readIdentityConfig(
    {
      values: {
        ...defaultValues,
        ECC_SIGNATURE_ALGORITHM: 'ECDSA',
        FILE_DEBOUNCE_DURATION: 5,
        SECRET_GRACE_PERIOD_RATIO_JITTER: 0,
        POD_NAMESPACE: 'shop',
        SERVICE_ACCOUNT: 'cart',
        ...options.values,
      },
      environment: {},
      proxyConfig: { discoveryAddress: options.discoveryAddress ?? '127.0.0.1:1' },
      root,
      areWorkloadCertificatesPresent: options.areWorkloadCertificatesPresent ?? false,
      compliance: undefined,
    },
    report,
  );
  const config = options.change?.(read) ?? read;
  await mkdir(join(root, 'var/run/secrets/workload-spiffe-uds'), { recursive: true });
  const logs = new LogCapture();
  let identity: WorkloadIdentity | undefined;
  const capture = new MetricsCapture(() => identity?.served ?? []);
  identity = new WorkloadIdentity({
    config,
    metrics: capture.metrics,
    logRoot: logs.root,
    random: () => 0.5,
    ...(options.clock === undefined ? {} : { clock: options.clock }),
  });
  const made = identity;
  atEnd(t, async () => made.close());
  return { identity, config, logs, capture, socketPath: config.workloadSocketPath };
}
