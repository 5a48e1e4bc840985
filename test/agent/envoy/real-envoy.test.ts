import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { HttpAdminClient } from '../../../agent/envoy/admin.ts';
import { buildBootstrap } from '../../../agent/envoy/bootstrap.ts';
import { writeBootstrapFile } from '../../../agent/envoy/bootstrap-file.ts';
import { Drain } from '../../../agent/envoy/drain.ts';
import { EnvoyProcess } from '../../../agent/envoy/process.ts';
import { EnvoyReadiness } from '../../../agent/envoy/readiness.ts';
import { envoyBinary } from '../../support/envoy.ts';
import { freePorts } from '../../support/free-ports.ts';
import { poll } from '../../support/polling.ts';
import { createWorkspace } from '../../support/workspace.ts';
import { downwardFile, type InputChanges, parsed } from '../config/agent-inputs-fixture.ts';
import { keptLog } from './kept-log.ts';

const { path: envoyPath, skipReason } = envoyBinary();
const skip = skipReason ?? false;
const noSockets = { isCredentialSocketPresent: false, isFileCredentialServed: false };
const deadlineMs = 30_000;

/** Inputs of a node whose ports are free, working in `root`. */
async function localNode(root: string, changes: InputChanges): Promise<InputChanges> {
  const [adminPort, statusPort, envoyStatus, prometheus] = await freePorts(4);
  return {
    root,
    ...changes,
    environment: {
      PROXY_CONFIG: JSON.stringify({
        proxyAdminPort: adminPort,
        statusPort,
        binaryPath: envoyPath,
        concurrency: 1,
        ...JSON.parse(changes.environment?.['PROXY_CONFIG'] ?? '{}'),
      }),
      ENVOY_STATUS_PORT: String(envoyStatus),
      ENVOY_PROMETHEUS_PORT: String(prometheus),
      ...Object.fromEntries(
        Object.entries(changes.environment ?? {}).filter(([name]) => name !== 'PROXY_CONFIG'),
      ),
    },
  };
}

const everything: InputChanges = {
  flags: { outlierLogPath: '/dev/null' },
  environment: {
    PROXY_CONFIG: JSON.stringify({
      tracing: {
        zipkin: { address: 'zipkin:9411' },
        tlsSettings: { mode: 'SIMPLE', caCertificates: '/ca.pem' },
      },
      envoyMetricsService: {
        address: 'ms:1',
        tlsSettings: { mode: 'ISTIO_MUTUAL' },
        tcpKeepalive: { time: '10s' },
      },
      envoyAccessLogService: {
        address: 'als:2',
        tlsSettings: { mode: 'MUTUAL', clientCertificate: '/c', privateKey: '/k', caCertificates: '/ca' },
      },
      statsdUdpAddress: '127.0.0.1:8125',
      extraStatTags: ['extra'],
      proxyStatsMatcher: { inclusionRegexps: ['.*'] },
      runtimeValues: { 'envoy.reloadable_features.http_reject_path_with_fragment': 'true' },
    }),
    ENVOY_SECURE_METRICS_PORT: '15091',
    ENVOY_SECURE_MERGED_METRICS_PORT: '15092',
    ENVOY_STATUS_PORT_ENABLE_PROXY_PROTOCOL: 'true',
    ISTIO_META_ENABLE_SELF_DISCOVERY: 'true',
    ISTIO_DUAL_STACK: 'true',
    EXIT_ON_ZERO_ACTIVE_CONNECTIONS: 'true',
  },
  interfaces: [{ interfaceName: 'eth0', address: 'fd00::5', isInternal: false }],
  files: {
    podAnnotations: downwardFile({
      'sidecar.istio.io/statsHistogramBuckets': '{"cluster":[1,5.5]}',
      'sidecar.istio.io/statsFlushInterval': '1m',
      'sidecar.istio.io/statsEvictionInterval': '2m',
    }),
  },
};

const variants: Readonly<Record<string, InputChanges>> = {
  'a sidecar with TLS': {},
  'a router without TLS': {
    type: 'router',
    environment: { PROXY_CONFIG: '{"controlPlaneAuthPolicy": "NONE"}', ISTIO_DELTA_XDS: 'false' },
  },
  'a node with JSON logs and Datadog': {
    logFlags: { outputLevel: '', asJson: true },
    environment: { PROXY_CONFIG: '{"tracing": {"datadog": {"address": "127.0.0.1:8126"}}}' },
  },
  'a node with everything on': everything,
};

describe('Envoy with our bootstrap', () => {
  for (const [name, changes] of Object.entries(variants)) {
    test(`accepts the document of ${name}`, { skip }, async () => {
      await using workspace = await createWorkspace();
      const { envoy } = parsed(await localNode(workspace.root, changes));
      await using _ = await writeBootstrapFile(
        envoy.bootstrapPath,
        buildBootstrap(envoy.bootstrap, noSockets),
        undefined,
      );
      const { stdout, stderr } = await promisify(execFile)(
        envoy.binaryPath,
        [...envoy.arguments, '--mode', 'validate'],
        { cwd: envoy.workingFolder },
      );
      assert.match(stdout + stderr, /configuration '[^']*' OK/);
    });
  }

  test('starts, answers its admin, drains and is killed', { skip }, async () => {
    await using workspace = await createWorkspace();
    const { envoy } = parsed(
      await localNode(workspace.root, {
        flags: { proxyLogLevel: 'critical' },
        environment: { EXIT_ON_ZERO_ACTIVE_CONNECTIONS: 'true' },
      }),
    );
    const document = buildBootstrap(envoy.bootstrap, noSockets);
    await using _ = await writeBootstrapFile(envoy.bootstrapPath, document, undefined);
    const running = await EnvoyProcess.start(envoy, process.env);
    const gone = new AbortController();
    try {
      void running.exited.then(() => gone.abort());
      const admin = new HttpAdminClient({ host: envoy.localHost, port: envoy.adminPort });
      const version = await poll(
        async (signal) => {
          try {
            return { done: true, value: await admin.get('/server_info', { timeoutMs: 5000, signal }) };
          } catch (error) {
            return { done: false, seen: String(error) };
          }
        },
        { what: 'an answer of the admin interface', deadlineMs, signal: gone.signal },
      );
      assert.match(version, /"node": \{\s*"id": "sidecar~10\.0\.0\.5~web-0\.shop~/);
      // There is no control plane, so this is as ready as it gets.
      const reason = await new EnvoyReadiness({ admin }).check();
      assert.match(
        reason ?? '',
        /^config not received from XDS server \(is Istiod running\?\): cds updates: 0 successful/,
      );
      const { log } = keptLog();
      const drain = new Drain(envoy, { admin, log, wait: async () => {} });
      const outcome = await drain.drainForTermination({ signal: gone.signal });
      assert.ok(['no_connections', 'no_stats'].includes(outcome), outcome);
    } finally {
      await running.close();
    }
    assert.deepEqual(await running.exited, { kind: 'killed', signal: 'SIGKILL', isByAgent: true });
  });
});
