import assert from 'node:assert/strict';
import test from 'node:test';
import { ConfigReport } from '../../../agent/config/config-report.ts';
import type { EnvironmentRecord } from '../../../agent/config/environment.ts';
import type { IdentityConfig } from '../../../agent/config/identity-config.ts';
import {
  type IdentityInput,
  type IdentityValues,
  readIdentityConfig,
} from '../../../agent/config/identity-settings.ts';
import { defaultValues } from '../identity/identity-fixture.ts';

function read(
  values: Partial<IdentityValues> = {},
  changes: Partial<Omit<IdentityInput, 'values'>> & { readonly environment?: EnvironmentRecord } = {},
) {
  const report = new ConfigReport();
  const config = readIdentityConfig(
    {
      values: { ...defaultValues, ...values },
      environment: {},
      proxyConfig: { discoveryAddress: 'istiod.istio-system.svc:15012' },
      root: '/pod',
      areWorkloadCertificatesPresent: false,
      compliance: undefined,
      ...changes,
    },
    report,
  );
  return { config, errors: report.errors, warnings: report.warnings };
}

test('the settings of an injected pod', () => {
  const { config, errors, warnings } = read({
    CA_ADDR: 'istiod.istio-system.svc:15012',
    POD_NAMESPACE: 'shop',
    SERVICE_ACCOUNT: 'cart',
    ISTIO_META_CLUSTER_ID: 'Kubernetes',
  });
  assert.deepEqual([errors, warnings], [[], []]);
  const wanted: IdentityConfig = {
    root: '/pod',
    isEnvoyEnabled: true,
    workloadSocketPath: '/pod/var/run/secrets/workload-spiffe-uds/socket',
    isDefaultSocketName: true,
    fileSocketPath: '/pod/var/run/secrets/credential-uds/files-socket',
    credentialSocketPath: '/pod/var/run/secrets/credential-uds/socket',
    workloadFiles: {
      certificatePath: '/pod/etc/certs/cert-chain.pem',
      keyPath: '/pod/etc/certs/key.pem',
      rootPath: '/pod/etc/certs/root-cert.pem',
      areRequired: false,
      areOwnOutput: false,
    },
    isFileMounted: false,
    ca: {
      provider: 'Citadel',
      address: 'istiod.istio-system.svc:15012',
      tls: {
        serverName: 'istiod.istio-system.svc',
        root: { kind: 'file', path: '/pod/var/run/secrets/istio/root-cert.pem' },
        clientCertificate: undefined,
        compliance: undefined,
      },
      tokenPath: '/pod/var/run/secrets/tokens/istio-token',
      clusterId: 'Kubernetes',
      headers: {},
      certSigner: '',
      keepaliveIntervalMs: 30_000,
      keepaliveTimeoutMs: 10_000,
    },
    csr: {
      key: { kind: 'rsa', sizeBits: 2048 },
      keyFormat: 'traditional',
      spiffeId: 'spiffe://cluster.local/ns/shop/sa/cart',
    },
    certificateTtlMs: 86_400_000,
    rotation: { graceRatio: 0.5, graceRatioJitter: 0.01 },
    fileDebounceMs: 100,
    output: undefined,
    crlPath: '/pod/var/run/secrets/istio/crl/ca-crl.pem',
    keyProvider: undefined,
  };
  assert.deepEqual(config, wanted);
});

const roots: readonly (readonly [string, Partial<IdentityValues>, unknown])[] = [
  ['SYSTEM', { CA_ROOT_CA: 'SYSTEM', PROV_CERT: '/p' }, { kind: 'system' }],
  [
    'a path',
    { CA_ROOT_CA: './ca.pem', PILOT_CERT_PROVIDER: 'custom' },
    { kind: 'file', path: '/pod/ca.pem' },
  ],
  [
    'custom',
    { PILOT_CERT_PROVIDER: 'custom', PROV_CERT: '/p' },
    { kind: 'file', path: '/pod/etc/certs/root-cert.pem' },
  ],
  [
    'provisioned',
    { PROV_CERT: '/p', PILOT_CERT_PROVIDER: 'none' },
    { kind: 'file', path: '/p/root-cert.pem' },
  ],
  ['none', { PILOT_CERT_PROVIDER: 'none' }, { kind: 'none' }],
  [
    'a signer',
    { PILOT_CERT_PROVIDER: 'k8s.io/signer' },
    { kind: 'file', path: '/pod/var/run/secrets/istio/root-cert.pem' },
  ],
];
for (const [name, values, wanted] of roots) {
  test(`root for the CA: ${name}`, () => assert.deepEqual(read(values).config.ca.tls?.root, wanted));
}

const servers: readonly (readonly [string, Partial<IdentityValues>, string, string | undefined])[] = [
  ['the discovery address without CA_ADDR', {}, 'istiod.istio-system.svc:15012', 'istiod.istio-system.svc'],
  [
    'ISTIOD_SAN counts without CA_ADDR',
    { ISTIOD_SAN: 'other.svc' },
    'istiod.istio-system.svc:15012',
    'other.svc',
  ],
  ['but not with it', { ISTIOD_SAN: 'other.svc', CA_ADDR: 'ca.svc:443' }, 'ca.svc:443', 'ca.svc'],
  [
    'a local address stands for istiod',
    { CA_ADDR: 'localhost:15012' },
    'localhost:15012',
    'istiod.istio-system.svc',
  ],
  ['port 15010 is plaintext', { CA_ADDR: 'ca.svc:15010' }, 'ca.svc:15010', undefined],
];
for (const [name, values, address, serverName] of servers) {
  test(`CA server: ${name}`, () => {
    const { ca } = read(values).config;
    assert.deepEqual([ca.address, ca.tls?.serverName], [address, serverName]);
  });
}

const keys: readonly (readonly [Partial<IdentityValues>, unknown])[] = [
  [{ WORKLOAD_RSA_KEY_SIZE: 4096 }, { kind: 'rsa', sizeBits: 4096 }],
  [{ ECC_SIGNATURE_ALGORITHM: 'ECDSA' }, { kind: 'ecdsa', curve: 'P-256' }],
  [
    { ECC_SIGNATURE_ALGORITHM: 'ECDSA', ECC_CURVE: 'P384' },
    { kind: 'ecdsa', curve: 'P-384' },
  ],
  [
    { ECC_SIGNATURE_ALGORITHM: 'ECDSA', ECC_CURVE: 'P521' },
    { kind: 'ecdsa', curve: 'P-256' },
  ],
  [
    { ECC_SIGNATURE_ALGORITHM: 'ECDSA', WORKLOAD_RSA_KEY_SIZE: 1 },
    { kind: 'ecdsa', curve: 'P-256' },
  ],
];
for (const [values, wanted] of keys) {
  test(`key for ${JSON.stringify(values)}`, () => {
    const { config, errors } = read(values);
    assert.deepEqual([config.csr.key, errors], [wanted, []]);
  });
}

const faults: readonly (readonly [string, Partial<IdentityValues>, string, RegExp])[] = [
  [
    'a weak RSA key',
    { WORKLOAD_RSA_KEY_SIZE: 1024 },
    'WORKLOAD_RSA_KEY_SIZE',
    /1024 is not between 2048 and 16384/,
  ],
  ['an RSA key beyond measure', { WORKLOAD_RSA_KEY_SIZE: 100_000 }, 'WORKLOAD_RSA_KEY_SIZE', /100000/],
  [
    'an unknown algorithm',
    { ECC_SIGNATURE_ALGORITHM: 'EdDSA' },
    'ECC_SIGNATURE_ALGORITHM',
    /"EdDSA" is not supported/,
  ],
  [
    'two sources of certificates',
    { PROV_CERT: '/p', FILE_MOUNTED_CERTS: true },
    'PROV_CERT',
    /and FILE_MOUNTED_CERTS are mutually exclusive/,
  ],
  [
    'two sources with GKE',
    { PROV_CERT: '/p', CA_PROVIDER: 'GkeWorkloadCertificate' },
    'PROV_CERT',
    /mutually exclusive/,
  ],
  [
    'another token source',
    { CREDENTIAL_FETCHER_TYPE: 'GoogleComputeEngine' },
    'CREDENTIAL_FETCHER_TYPE',
    /"GoogleComputeEngine" is not a token source/,
  ],
  ['a trust domain with a blank', { TRUST_DOMAIN: 'a b' }, 'TRUST_DOMAIN', /is no URI/],
];
for (const [name, values, variable, problem] of faults) {
  test(`${name} is an error that names the variable`, () => {
    const { errors } = read(values);
    assert.equal(errors.length, 1);
    assert.equal(errors[0]?.name, variable);
    assert.match(errors[0].problem, problem);
  });
}

test('numbers that make no sense are replaced with a warning', () => {
  const { config, errors, warnings } = read({
    SECRET_TTL: -1,
    FILE_DEBOUNCE_DURATION: 0,
    SECRET_GRACE_PERIOD_RATIO: 1.5,
    SECRET_GRACE_PERIOD_RATIO_JITTER: -0.1,
  });
  assert.deepEqual([config.certificateTtlMs, config.fileDebounceMs], [86_400_000, 100]);
  assert.deepEqual(config.rotation, { graceRatio: 1, graceRatioJitter: 0 });
  assert.deepEqual([errors.length, warnings.length], [0, 4]);
});

test('CA_HEADER_* becomes metadata; reserved names are left out, bad values are errors without the value', () => {
  const { config, errors, warnings } = read(
    {},
    {
      environment: {
        CA_HEADER_X_Team: 'shop',
        'CA_HEADER_key-bin': 'raw',
        CA_HEADER_Authorization: 'secret-one',
        'CA_HEADER_grpc-timeout': '1S',
        CA_HEADER_bad: 'secret\ntwo',
        OTHER: 'x',
      },
    },
  );
  assert.deepEqual(config.ca.headers, { x_team: 'shop', 'key-bin': 'cmF3' });
  assert.deepEqual(
    errors.map(({ name }) => name),
    ['CA_HEADER_bad'],
  );
  assert.equal(warnings.length, 2);
  assert.doesNotMatch(JSON.stringify([errors, warnings]), /secret/);
});

test('mounted files: by setting, because they are there, and as GKE mounts them', () => {
  assert.equal(read({ FILE_MOUNTED_CERTS: true }).config.isFileMounted, true);
  const present = read({}, { areWorkloadCertificatesPresent: true }).config;
  const folder = '/pod/var/run/secrets/workload-spiffe-credentials';
  assert.deepEqual([present.isFileMounted, present.workloadFiles.keyPath], [true, `${folder}/key.pem`]);
  const gke = read({ CA_PROVIDER: 'GkeWorkloadCertificate' }).config;
  assert.deepEqual(
    [gke.isFileMounted, gke.workloadFiles],
    [
      true,
      {
        certificatePath: `${folder}/certificates.pem`,
        keyPath: `${folder}/private_key.pem`,
        rootPath: `${folder}/ca_certificates.pem`,
        areRequired: true,
        areOwnOutput: false,
      },
    ],
  );
});

test('written certificates: mode by platform; the own output is not read', () => {
  const own = read({ OUTPUT_CERTS: './etc/certs', PROV_CERT: './etc/certs' }).config;
  assert.deepEqual(own.output, { folder: '/pod/etc/certs', fileMode: 0o600 });
  assert.equal(own.workloadFiles.areOwnOutput, true);
  const other = read({ OUTPUT_CERTS: '/data', KUBERNETES_SERVICE_HOST: '10.0.0.1' }).config;
  assert.deepEqual(other.output, { folder: '/data', fileMode: 0o644 });
  assert.equal(other.workloadFiles.areOwnOutput, false);
});

test('a provisioned certificate is presented to the CA', () => {
  assert.deepEqual(read({ PROV_CERT: '/p' }).config.ca.tls?.clientCertificate, {
    keyPath: '/p/key.pem',
    certificatePath: '/p/cert-chain.pem',
  });
});

test('a Google endpoint is another provider, whatever CA_PROVIDER says', () => {
  assert.equal(read({ CA_ADDR: 'meshca.googleapis.com:443' }).config.ca.provider, 'GoogleCA');
});

test('the key provider of ProxyConfig counts with the part of its delay below a second', () => {
  const settings = (privateKeyProvider: NonNullable<IdentityInput['proxyConfig']['privateKeyProvider']>) =>
    read({}, { proxyConfig: { discoveryAddress: 'a:1', privateKeyProvider } }).config.keyProvider;
  assert.deepEqual(settings({ cryptomb: { pollDelay: '0.02s', fallback: true } }), {
    name: 'cryptomb',
    pollDelayNanos: 20_000_000,
    isFallbackAllowed: true,
  });
  assert.deepEqual(settings({ qat: { pollDelay: '1.000250s' } }), {
    name: 'qat',
    pollDelayNanos: 250_000,
    isFallbackAllowed: false,
  });
});

test('without Envoy, with another socket and without revocation lists', () => {
  const { config } = read({
    DISABLE_ENVOY: true,
    WORKLOAD_IDENTITY_SOCKET_FILE: 'spire.sock',
    PILOT_ENABLE_CA_CRL: false,
  });
  assert.deepEqual(
    [config.isEnvoyEnabled, config.isDefaultSocketName, config.workloadSocketPath, config.crlPath],
    [false, false, '/pod/var/run/secrets/workload-spiffe-uds/spire.sock', undefined],
  );
});
