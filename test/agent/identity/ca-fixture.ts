import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type Clock, systemClock } from '../../../agent/clock.ts';
import type { CaConfig } from '../../../agent/config/identity-config.ts';
import { CaClient } from '../../../agent/identity/ca-client.ts';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { CaServer, type CaServerOptions } from '../../support/certificate-authority/ca-server.ts';
import { atEnd, temporaryFolder } from '../../support/test-end.ts';
import { LogCapture, MetricsCapture } from './sds-fixture.ts';

export const serverName = 'istiod.istio-system.svc';
export const spiffeId = 'spiffe://cluster.local/ns/shop/sa/cart';
export const token = 'eyJhbGciOiJSUzI1NiJ9.the-service-account-token.signature';

/** A clock whose waits are over at once, and are remembered. */
export class HastyClock implements Clock {
  readonly waitsMs: number[] = [];

  now(): number {
    return systemClock.now();
  }

  schedule(delayMs: number, callback: () => void): Disposable {
    this.waitsMs.push(delayMs);
    return systemClock.schedule(0, callback);
  }
}

export interface CaFixture {
  readonly folder: string;
  readonly ca: CaServer;
  /** Signs workloads. */
  readonly authority: Authority;
  /** Signs the server. */
  readonly serverAuthority: Authority;
  readonly rootPath: string;
  readonly tokenPath: string;
  readonly config: CaConfig;
}

/** A CA over TLS, and the files and settings a pod has to reach it. */
export async function startCa(t: TestContext, changes: Partial<CaServerOptions> = {}): Promise<CaFixture> {
  const folder = await temporaryFolder(t);
  const authority = Authority.createRoot('workload root');
  const serverAuthority = Authority.createRoot('istiod root');
  const ca = await CaServer.start({
    authority,
    tls: { server: serverAuthority.issue([serverName]) },
    spiffeId,
    ...changes,
  });
  atEnd(t, async () => ca.close());
  const rootPath = join(folder, 'var/run/secrets/istio/root-cert.pem');
  const tokenPath = join(folder, 'var/run/secrets/tokens/istio-token');
  await mkdir(join(folder, 'var/run/secrets/istio'), { recursive: true });
  await mkdir(join(folder, 'var/run/secrets/tokens'), { recursive: true });
  await writeFile(rootPath, serverAuthority.certificate);
  await writeFile(tokenPath, `${token}\n`);
  return {
    folder,
    ca,
    authority,
    serverAuthority,
    rootPath,
    tokenPath,
    config: {
      provider: 'Citadel',
      address: ca.address,
      tls: {
        serverName,
        root: { kind: 'file', path: rootPath },
        clientCertificate: undefined,
        compliance: undefined,
      },
      tokenPath,
      clusterId: 'Kubernetes',
      headers: {},
      certSigner: '',
      keepaliveIntervalMs: 30_000,
      keepaliveTimeoutMs: 10_000,
    },
  };
}

/** A client of it, with what it logs and counts. */
export function makeClient(config: CaConfig, clock: Clock = new HastyClock()) {
  const logs = new LogCapture();
  const capture = new MetricsCapture();
  const client = new CaClient({
    config,
    metrics: capture.metrics,
    log: logs.root.scope('citadelclient'),
    clock,
    random: () => 0.5,
  });
  return { client, logs, capture };
}
