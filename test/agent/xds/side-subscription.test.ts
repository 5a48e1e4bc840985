import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import test, { type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { nameTableTypeUrl } from '../../../agent/dns/name-table-message.ts';
import { LogRoot } from '../../../agent/log.ts';
import { sideSubscription } from '../../../agent/xds/side-subscription.ts';
import { HealthReport } from '../../../agent/xds/side-subscription-health.ts';
import { decodeTrustBundle, proxyConfigTypeUrl } from '../../../agent/xds/side-subscription-trust-bundle.ts';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { EventQueue } from './event-queue.ts';
import { clusterType, listenerType, messages } from './messages.ts';
import {
  deltaPath,
  type IstiodStream,
  openRawEnvoy,
  type RawEnvoy,
  sotwPath,
  startRawIstiod,
} from './raw-peers.ts';
import { type RelayFixture, startRelay } from './relay-fixture.ts';

type Kind = 'sotw' | 'delta';
const kinds = ['sotw', 'delta'] as const;
const healthType = 'type.googleapis.com/istio.v1.HealthInformation';
const silent = new LogRoot({ format: 'text', levels: new Map(), write: () => undefined }).scope('x');

interface Side {
  readonly applied: EventQueue<{ readonly bytes: Buffer | undefined }>;
  readonly health: HealthReport;
  readonly relay: RelayFixture;
  readonly open: (kind: Kind) => Promise<{ readonly envoy: RawEnvoy; readonly upstream: IstiodStream }>;
}

/** A relay that carries all three subscriptions; `refuse` is thrown for a resource that starts with it. */
async function startSide(t: TestContext): Promise<Side> {
  const applied = new EventQueue<{ readonly bytes: Buffer | undefined }>();
  const apply = (bytes: Buffer | undefined): void => {
    if (bytes?.toString().startsWith('bad') === true)
      throw new Error('no good', { cause: new Error('at byte 3') });
    applied.push({ bytes });
  };
  const health = new HealthReport({ log: silent });
  const istiod = await startRawIstiod(t);
  const relay = await startRelay(
    t,
    { discoveryAddress: istiod.address },
    {
      interceptors: [
        sideSubscription({ typeUrl: nameTableTypeUrl, apply, log: silent }),
        sideSubscription({ typeUrl: proxyConfigTypeUrl, apply, log: silent }),
        health,
      ],
    },
  );
  const open = async (kind: Kind) => {
    const path = kind === 'sotw' ? sotwPath : deltaPath;
    const envoy = openRawEnvoy(t, relay.config.socketPath, { headers: { ':path': path } });
    return { envoy, upstream: await istiod.streams.next() };
  };
  return { applied, health, relay, open };
}

const request = (kind: Kind, typeUrl: string): Buffer => messages[kind].request.encode({ type_url: typeUrl });

/** Only what is set. */
async function nextRequest(kind: Kind, upstream: IstiodStream): Promise<Record<string, unknown>> {
  const decoded = messages[kind].request.decode(await upstream.requests.next());
  const isSet = (value: unknown): boolean =>
    value !== '' &&
    value !== null &&
    !(Array.isArray(value) && value.length === 0) &&
    JSON.stringify(value) !== '{}';
  return Object.fromEntries(Object.entries(decoded).filter(([, value]) => isSet(value)));
}

function response(
  kind: Kind,
  typeUrl: string,
  nonce: string,
  contents: readonly (string | readonly [string, string])[],
) {
  const resources = contents.map((content) => {
    const [type, value] = typeof content === 'string' ? [typeUrl, content] : content;
    const any = { type_url: type, value: Buffer.from(value) };
    return kind === 'sotw' ? any : { name: 'ignored', resource: any };
  });
  return messages[kind].response.encode({
    [kind === 'sotw' ? 'version_info' : 'system_version_info']: `v-${nonce}`,
    type_url: typeUrl,
    nonce,
    resources,
  });
}

/** What an answer to `nonce` looks like; `version` is there in state of the world only. */
function answer(kind: Kind, typeUrl: string, nonce: string, version: string, message?: string): object {
  return {
    type_url: typeUrl,
    response_nonce: nonce,
    ...(kind === 'sotw' && version !== '' && { version_info: version }),
    ...(message !== undefined && { error_detail: { code: 13, message } }),
  };
}

for (const kind of kinds) {
  test(`${kind}: the agent asks for its types behind the first listener request, once on each stream`, async (t) => {
    const side = await startSide(t);
    side.health.report({ kind: 'healthy' });
    for (let round = 0; round < 2; round += 1) {
      const { envoy, upstream } = await side.open(kind);
      envoy.send(request(kind, clusterType), request(kind, listenerType), request(kind, listenerType));
      const types = [
        clusterType,
        listenerType,
        nameTableTypeUrl,
        proxyConfigTypeUrl,
        healthType,
        listenerType,
      ];
      for (const typeUrl of types) assert.deepEqual(await nextRequest(kind, upstream), { type_url: typeUrl });
    }
  });

  test(`${kind}: a resource is applied and acknowledged, and Envoy does not see it`, async (t) => {
    const side = await startSide(t);
    const { envoy, upstream } = await side.open(kind);
    envoy.send(request(kind, clusterType));
    await nextRequest(kind, upstream);
    upstream.send(response(kind, nameTableTypeUrl, 'n1', ['table', 'a second one']));
    assert.equal((await side.applied.next()).bytes?.toString(), 'table');
    assert.deepEqual(await nextRequest(kind, upstream), answer(kind, nameTableTypeUrl, 'n1', 'v-n1'));
    upstream.send(response(kind, clusterType, 'c1', ['cluster']));
    assert.deepEqual(messages[kind].response.decode(await envoy.responses.next())['type_url'], clusterType);
    assert.equal(envoy.responses.pendingCount, 0);
  });

  test(`${kind}: an empty response is applied and acknowledged`, async (t) => {
    const side = await startSide(t);
    const { envoy, upstream } = await side.open(kind);
    envoy.send(request(kind, clusterType));
    await nextRequest(kind, upstream);
    upstream.send(response(kind, nameTableTypeUrl, 'n1', []));
    assert.equal((await side.applied.next()).bytes, undefined);
    assert.deepEqual(await nextRequest(kind, upstream), answer(kind, nameTableTypeUrl, 'n1', 'v-n1'));
    // A resource without content is one.
    upstream.send(response(kind, nameTableTypeUrl, 'n2', ['']));
    assert.equal((await side.applied.next()).bytes?.length, 0);
  });

  test(`${kind}: a refused resource is NACKed with the cause and the version accepted last`, async (t) => {
    const side = await startSide(t);
    const { envoy, upstream } = await side.open(kind);
    envoy.send(request(kind, clusterType));
    await nextRequest(kind, upstream);
    upstream.send(response(kind, nameTableTypeUrl, 'n1', ['bad']));
    const failed = answer(kind, nameTableTypeUrl, 'n1', '', 'no good: at byte 3');
    assert.deepEqual(await nextRequest(kind, upstream), failed);
    upstream.send(response(kind, nameTableTypeUrl, 'n2', ['good']));
    assert.deepEqual(await nextRequest(kind, upstream), answer(kind, nameTableTypeUrl, 'n2', 'v-n2'));
    upstream.send(response(kind, nameTableTypeUrl, 'n3', [['', 'x']]));
    assert.deepEqual(
      await nextRequest(kind, upstream),
      answer(
        kind,
        nameTableTypeUrl,
        'n3',
        'v-n2',
        `the resource is of type "", expected ${nameTableTypeUrl}`,
      ),
    );
  });

  test(`${kind}: health is told on change, and not before the listener request`, async (t) => {
    const side = await startSide(t);
    const { envoy, upstream } = await side.open(kind);
    side.health.report({ kind: 'healthy' });
    side.health.report({ kind: 'unhealthy', reason: 'status code was not from [200,400), bad code 500' });
    envoy.send(request(kind, clusterType), request(kind, listenerType));
    for (const typeUrl of [clusterType, listenerType, nameTableTypeUrl, proxyConfigTypeUrl]) {
      assert.deepEqual(await nextRequest(kind, upstream), { type_url: typeUrl });
    }
    assert.deepEqual(await nextRequest(kind, upstream), {
      type_url: healthType,
      error_detail: { code: 13, message: 'status code was not from [200,400), bad code 500' },
    });
    side.health.report({ kind: 'healthy' });
    assert.deepEqual(await nextRequest(kind, upstream), { type_url: healthType });
    upstream.send(response(kind, healthType, 'h1', ['x']));
    // An ended stream is told nothing, and the next one what is true then.
    envoy.stream.close();
    await upstream.closed;
    side.health.report({ kind: 'unhealthy', reason: 'r'.repeat(5000) });
    const next = await side.open(kind);
    next.envoy.send(request(kind, listenerType));
    for (const typeUrl of [listenerType, nameTableTypeUrl, proxyConfigTypeUrl]) {
      assert.deepEqual(await nextRequest(kind, next.upstream), { type_url: typeUrl });
    }
    const told = (await nextRequest(kind, next.upstream))['error_detail'] as { message: string };
    assert.equal(told.message, `${'r'.repeat(1024)}...`);
  });

  test(`${kind}: requests of Envoy for the agent's types end at the agent`, async (t) => {
    const side = await startSide(t);
    const { envoy, upstream } = await side.open(kind);
    const own = [nameTableTypeUrl, proxyConfigTypeUrl, healthType];
    envoy.send(...own.map((typeUrl) => request(kind, typeUrl)), request(kind, clusterType));
    assert.deepEqual(await nextRequest(kind, upstream), { type_url: clusterType });
  });
}

test('a response that is no message ends the stream', async (t) => {
  const side = await startSide(t);
  const { envoy, upstream } = await side.open('sotw');
  envoy.send(request('sotw', clusterType));
  await nextRequest('sotw', upstream);
  // The nonce is no text.
  const good = messages.sotw.response.encode({ type_url: nameTableTypeUrl });
  upstream.send(Buffer.concat([good, Buffer.from('2a02c328', 'hex')]));
  const { grpcStatus, grpcMessage } = await envoy.ended;
  assert.equal(grpcStatus, 13);
  assert.match(grpcMessage ?? '', /for type\.googleapis\.com\/istio\.networking.* cannot be read/);
});

test('the trust bundle is the certificates of all its texts', () => {
  const field = (text: string): Buffer => {
    const length = Buffer.from([(text.length & 0x7f) | 0x80, text.length >> 7]);
    return Buffer.concat([Buffer.from([0x92, 0x02]), length, Buffer.from(text)]);
  };
  const [first = '', second = '', third = ''] = ['a', 'b', 'c'].map(() =>
    Authority.createRoot().certificate.trim(),
  );
  assert.deepEqual(decodeTrustBundle(undefined), []);
  assert.deepEqual(decodeTrustBundle(Buffer.alloc(0)), []);
  const other = Buffer.from('0a01782a0179', 'hex');
  const whole = Buffer.concat([field(`${first}\n`), other, field(`# two\n${second}\n${third}`)]);
  assert.deepEqual(decodeTrustBundle(whole), [first, second, third]);
  const broken = first.replace(/\n.{8}/, '\nAAAAAAAA');
  const bad = [whole.subarray(0, 200), field(''), field('no certificate'), field(broken)];
  for (const bytes of [...bad, Buffer.concat([whole, field(broken)])]) {
    assert.throws(() => decodeTrustBundle(bytes), { name: 'WireFormatError' });
  }
});

const captures = fileURLToPath(new URL('../../../../shared/captures', import.meta.url));
const skip = existsSync(captures) ? false : `no recordings in ${captures}`;

interface Recorded {
  readonly kind: string;
  readonly dir: string;
  readonly type_url?: string;
  readonly bytes: string;
}

for (const kind of kinds) {
  test(`${kind}: what a stock agent sent for its types is sent byte for byte`, { skip }, async (t) => {
    const file = `${captures}/f-sidecar-dns-pcds-health.${kind}.jsonl`;
    const own = [nameTableTypeUrl, proxyConfigTypeUrl, healthType];
    const recorded = readFileSync(file, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Recorded)
      .filter((message) => message.kind === 'message' && own.includes(message.type_url ?? ''));
    assert.ok(recorded.length > 10);
    const side = await startSide(t);
    const { envoy, upstream } = await side.open(kind);
    envoy.send(request(kind, listenerType));
    await upstream.requests.next();
    for (const { dir, type_url: typeUrl, bytes } of recorded) {
      const message = Buffer.from(bytes, 'base64');
      if (dir === 'istiod>agent') {
        upstream.send(message);
        continue;
      }
      if (typeUrl === healthType) {
        const detail = messages[kind].request.decode(message)['error_detail'] as
          | { message: string }
          | undefined;
        side.health.report(
          detail === undefined ? { kind: 'healthy' } : { kind: 'unhealthy', reason: detail.message },
        );
      }
      assert.deepEqual(await upstream.requests.next(), message);
    }
  });
}
