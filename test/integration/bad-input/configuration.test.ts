import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import test from 'node:test';
import { runCommand } from '../../agent/cli/command-process.ts';
import { freePorts } from '../../support/free-ports.ts';
import { createWorkspace } from '../../support/workspace.ts';
import { checkStop } from './checks.ts';
import { Scene } from './scene.ts';

/** What a pod has, so that only what a test adds is wrong. */
const podEnv = {
  POD_NAME: 'web-0',
  POD_NAMESPACE: 'shop',
  INSTANCE_IP: '10.0.0.5',
  DISABLE_ENVOY: 'true',
};

/** For agents that speak plaintext: there is no CA, and no root file to trust one by. */
const plaintextEnv = { ...podEnv, FILE_MOUNTED_CERTS: 'true' };

/** Everything an agent cannot start with, in one environment, and the line each must give. */
const errorCases: readonly (readonly [string, Readonly<Record<string, string>>, string])[] = [
  [
    'a metadata key that is no boolean',
    { ISTIO_META_DNS_CAPTURE: 'yes' },
    'ISTIO_META_DNS_CAPTURE: metadata key DNS_CAPTURE must be a boolean in a text, got "yes"; ',
  ],
  [
    'a port that is none',
    { ENVOY_STATUS_PORT: '99999' },
    'ENVOY_STATUS_PORT: is 99999; set a port from 1 to 65535',
  ],
  [
    'a negative port',
    { ENVOY_PROMETHEUS_PORT: '-1' },
    'ENVOY_PROMETHEUS_PORT: is -1; set a port from 1 to 65535',
  ],
  [
    'a socket file name with a folder',
    { WORKLOAD_IDENTITY_SOCKET_FILE: 'a/b' },
    'WORKLOAD_IDENTITY_SOCKET_FILE: ',
  ],
  [
    'a compliance policy nobody knows',
    { COMPLIANCE_POLICY: 'fips' },
    'COMPLIANCE_POLICY: "fips" is not a policy of this agent; use fips-140-2, fips-140-3, pqc',
  ],
  [
    'tokens of a virtual machine',
    { CREDENTIAL_FETCHER_TYPE: 'GoogleComputeEngine' },
    'CREDENTIAL_FETCHER_TYPE: "GoogleComputeEngine" is not a token source of this agent; use JWT',
  ],
  [
    'a key that is too short',
    { WORKLOAD_RSA_KEY_SIZE: '1024' },
    'WORKLOAD_RSA_KEY_SIZE: 1024 is not between 2048 and 16384; set 2048 or more',
  ],
];

test('everything that is wrong in one environment is told at once, and the exit code is 255', async () => {
  await using workspace = await createWorkspace();
  const proxyConfig = {
    discoveryAddress: 'nowhere',
    proxyAdminPort: 0,
    drainDuration: 'soon',
    concurrency: 'many',
    binaryPath: '',
  };
  const { code, stdout, stderr } = await runCommand(['proxy', 'sidecar'], {
    cwd: workspace.root,
    env: Object.assign(
      { ...podEnv, DOCKER_AUTH_CONFIG: 'hunter2', PROXY_CONFIG: JSON.stringify(proxyConfig) },
      ...errorCases.map(([, env]) => env),
    ),
  });
  assert.equal(code, 255);
  const expected = [
    ...errorCases.map(([, , line]) => line),
    'PROXY_CONFIG.drainDuration: expected a duration, got "soon"; ',
    'PROXY_CONFIG.concurrency: expected ',
    'ProxyConfig.discoveryAddress: is "nowhere"; ',
    'ProxyConfig.proxyAdminPort: is 0; ',
    'ProxyConfig.binaryPath: is empty; ',
  ];
  const lines = stderr.trimEnd().split('\n');
  for (const line of expected) {
    assert.ok(
      lines.some((each) => each.startsWith(`Error: ${line}`)),
      `${line}\nis not in\n${stderr}`,
    );
    assert.ok(stdout.includes(`\terror\t${line}`), `${line} is in the log too`);
  }
  assert.equal(lines.length, expected.length, stderr);
  assert.doesNotMatch(stdout + stderr, /hunter2/);
});

for (const [name, proxyConfig, line] of [
  ['a PROXY_CONFIG that is no document', '{"discoveryAddress": ', /^Error: PROXY_CONFIG: /m],
  ['a PROXY_CONFIG that is a list', '[]', /^Error: PROXY_CONFIG: /m],
] as const) {
  test(`${name} ends with 255 and says why`, async () => {
    await using workspace = await createWorkspace();
    const env = { ...podEnv, PROXY_CONFIG: proxyConfig };
    const { code, stderr } = await runCommand(['proxy', 'sidecar'], { cwd: workspace.root, env });
    assert.match(stderr, line);
    assert.equal(code, 255);
  });
}

test('values that the stock agent would take for the default are warned about, and the agent works', async (t) => {
  const table: readonly (readonly [string, string, RegExp])[] = [
    ['ISTIO_WASM_MAX_BINARY_SIZE_BYTES', 'huge', /"huge" is not an integer; using 268435456/],
    ['WASM_HTTP_REQUEST_TIMEOUT', 'soon', /"soon" is not a duration \(such as 1h30m or 100ms\); using /],
    ['WASM_HTTP_REQUEST_MAX_RETRIES', '0', /0 would allow no attempt at all; using 1/],
    ['WASM_MODULE_EXPIRY', '-1h', /is negative; using 86400s/],
    [
      'ISTIO_AGENT_ENABLE_WASM_REMOTE_LOAD_CONVERSION',
      'yes',
      /"yes" is not a boolean \(true or false\); using true/,
    ],
    [
      'BLOCKED_CIDRS_IN_WASM_FETCH',
      '10.0.0.0/33',
      /"10\.0\.0\.0\/33" is not an address range such as 10\.0\.0\.0\/8; ignored/,
    ],
    ['ISTIO_GPRC_MAXRECVMSGSIZE', '4MB', /"4MB" is not an integer; using 4194304/],
  ];
  const env = Object.fromEntries(table.map(([name, value]) => [name, value]));
  const scene = await Scene.start(t, { env });
  for (const [name, , warning] of table) {
    const line = await scene.agent.waitForLog(new RegExp(`\\twarn\\t${name}: `));
    assert.match(line, warning);
  }
  await scene.ready();
  await checkStop(scene);
});

test('a policy file with faults ends the agent with 255, and each fault has its line and column', async () => {
  await using workspace = await createWorkspace();
  await workspace.write('policy.yaml', 'version: 1\ndefaultAction: denied\nmodulez: []\n');
  for (const [file, lines] of [
    [
      'policy.yaml',
      [
        /^Error: the Wasm policy cannot be used:$/m,
        /^\S+\/policy\.yaml:2:16: defaultAction: is "denied"; write allow or deny/m,
        /^\S+\/policy\.yaml:3:1: modulez: is unknown; did you mean modules\?/m,
      ],
    ],
    ['none.yaml', [/^\S+\/none\.yaml: the file does not exist; check the path and the mount$/m]],
  ] as const) {
    const { code, stderr } = await runCommand(['proxy', 'sidecar'], {
      cwd: workspace.root,
      env: { ...podEnv, WASM_POLICY_FILE: file },
    });
    for (const line of lines) assert.match(stderr, line);
    assert.equal(code, 255);
  }
});

test('a status port that is taken ends the agent with 255 and says so', async () => {
  await using workspace = await createWorkspace();
  const [port = 0] = await freePorts(1);
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(port, resolve));
  try {
    const proxyConfig = { discoveryAddress: '127.0.0.1:1', controlPlaneAuthPolicy: 'NONE', statusPort: port };
    const { code, stderr } = await runCommand(['proxy', 'sidecar'], {
      cwd: workspace.root,
      env: { ...plaintextEnv, PROXY_CONFIG: JSON.stringify(proxyConfig) },
    });
    assert.match(stderr, new RegExp(`^Error: .*${port}.*EADDRINUSE`, 'm'));
    assert.equal(code, 255);
  } finally {
    server.close();
  }
});

test('a folder where the socket for Envoy should be ends the agent with 255 and says so', async () => {
  await using workspace = await createWorkspace();
  await workspace.write('etc/istio/proxy/XDS/a-file', 'in the way');
  const [statusPort = 0] = await freePorts(1);
  const proxyConfig = { discoveryAddress: '127.0.0.1:1', controlPlaneAuthPolicy: 'NONE', statusPort };
  const { code, stderr } = await runCommand(['proxy', 'sidecar'], {
    cwd: workspace.root,
    env: { ...plaintextEnv, PROXY_CONFIG: JSON.stringify(proxyConfig) },
  });
  assert.match(stderr, /^Error: failed to remove unix:\/\/\S+\/etc\/istio\/proxy\/XDS: /m);
  assert.equal(code, 255);
});

test('a cache folder whose path leads through a file ends the agent with 255 and says so', async () => {
  await using workspace = await createWorkspace();
  await workspace.write('a-file', 'not a folder');
  const [statusPort = 0] = await freePorts(1);
  const proxyConfig = { discoveryAddress: '127.0.0.1:1', controlPlaneAuthPolicy: 'NONE', statusPort };
  const { code, stderr } = await runCommand(['proxy', 'sidecar'], {
    cwd: workspace.root,
    env: {
      ...plaintextEnv,
      PROXY_CONFIG: JSON.stringify(proxyConfig),
      WASM_DATA_DIR: workspace.path('a-file/data'),
    },
  });
  assert.match(
    stderr,
    /^Error: the cache folder of Wasm modules cannot be \S+a-file\/data: .*WASM_DATA_DIR/m,
  );
  assert.equal(code, 255);
});

const mutualTls = { discoveryAddress: 'localhost:15012' };
const noRoot =
  /^Error: the root certificate for the CA at localhost:15012 \(\S+\/istio\/root-cert\.pem\) cannot be used: ENOENT/m;

/** What the certificate side cannot start with, and the line it must give. */
const certificateCases: readonly {
  readonly name: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly proxyMetadata?: Readonly<Record<string, string>>;
  readonly line: RegExp;
}[] = [
  { name: 'no root file for the CA', line: noRoot },
  {
    name: 'no root file for istiod',
    env: { CA_ADDR: '127.0.0.1:15010' },
    line: /^Error: failed to read the root certificate for istiod at \S+\/istio\/root-cert\.pem: ENOENT.*XDS_ROOT_CA/m,
  },
  {
    name: 'another CA than istiod',
    env: { CA_PROVIDER: 'AcmeCA' },
    line: /^Error: CA provider "AcmeCA" \(CA_PROVIDER, or from CA_ADDR \S+\) is not registered: use Citadel/m,
  },
  {
    name: 'a workload socket of another provider, which is not there',
    env: { WORKLOAD_IDENTITY_SOCKET_FILE: 'spire.sock' },
    line: /^Error: agent configured for non-default SDS socket path: \S+\/spire\.sock but no socket found; start the provider first/m,
  },
  {
    name: 'certificates of GKE that are not mounted',
    env: { CA_PROVIDER: 'GkeWorkloadCertificate' },
    proxyMetadata: { ISTIO_META_TLS_CLIENT_ROOT_CERT: 'root.pem' },
    line: /^Error: workload certificate file \S+\/certificates\.pem is not present/m,
  },
];

for (const { name, env, proxyMetadata, line } of certificateCases) {
  test(`${name}: the agent ends with 255 and says so`, async () => {
    await using workspace = await createWorkspace();
    const [statusPort = 0] = await freePorts(1);
    const proxyConfig = {
      ...mutualTls,
      statusPort,
      ...(proxyMetadata === undefined ? {} : { proxyMetadata }),
    };
    const { code, stderr } = await runCommand(['proxy', 'sidecar'], {
      cwd: workspace.root,
      env: { ...podEnv, PROXY_CONFIG: JSON.stringify(proxyConfig), ...env },
    });
    assert.match(stderr, line);
    assert.equal(code, 255);
  });
}
