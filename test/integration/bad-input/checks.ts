import assert from 'node:assert/strict';
import type { AdsStream } from '../../support/control-plane/ads-stream.ts';
import type { Resource } from '../../support/control-plane/discovery-messages.ts';
import { typeUrls } from '../../support/control-plane/type-urls.ts';
import type { Scene } from './scene.ts';

/** What a bad input must show. */
export interface ExpectedFailure {
  /** The reason in the NACK at the control plane and in `lastError`. */
  readonly reason: RegExp;
  /** Where the reason carries the target's own name: state of the world has no name beside the bad bytes. */
  readonly isNamed?: 'always' | 'in delta' | 'never';
  /** The good config beside it needs no new file. */
  readonly isNeighbourCached?: boolean;
  /** Mends what made the input bad, before the good push. */
  readonly heal?: () => Promise<void>;
  /** A line of the agent's log. Default: one of level error with the reason. */
  readonly logLine?: RegExp;
}

/** How Envoy's stream must end. */
export interface ExpectedEnd {
  /** gRPC status. */
  readonly code: number;
  readonly text: RegExp;
  /** Default: the end of the stream, as a warning, with the text. `none`: only Envoy's own log tells it. */
  readonly logLine?: RegExp | 'none';
}

/**
 * Pushes bad configs in the target's place together with a good neighbour, cluster and listener. Checks that the
 * failure is told, that the target stays as it was and all else goes through, and that a good push works after it.
 */
export async function checkRefused(
  scene: Scene,
  bad: readonly Resource[],
  expected: ExpectedFailure,
): Promise<void> {
  await scene.disturb();
  const { isNamed = 'always' } = expected;
  const hasName = isNamed === 'always' || (isNamed === 'in delta' && scene.mode === 'delta');
  const before = scene.envoy.held(typeUrls.ecds, scene.targetName);
  const rejectCount = scene.controlPlane.counter('pilot_total_xds_rejects', 'ecds');
  const lineCount = scene.agent.logLines.length;
  const neighbour = await scene.nextNeighbour(expected.isNeighbourCached);
  const version = scene.push([...bad, neighbour], [neighbour]);

  const nack = await scene.controlPlane.waitForNack('ecds', { version });
  assert.match(nack.message, expected.reason);
  const place = hasName ? `${scene.targetName}: ` : 'resource ';
  assert.ok(nack.message.startsWith(place), nack.message);
  assert.equal(scene.controlPlane.counter('pilot_total_xds_rejects', 'ecds'), rejectCount + 1);
  await assertLogged(scene, lineCount, expected);

  await scene.assertRestIn(version, neighbour);
  assert.deepEqual(scene.envoy.held(typeUrls.ecds, scene.targetName), before, 'the target is as it was');
  await scene.assertModuleFile(scene.targetName);
  const seen = await scene.seen(scene.targetName);
  assert.equal(seen?.inForce, 'plugin', JSON.stringify(seen));
  if (hasName) {
    assert.equal(seen.state, 'failed');
    assert.match(seen.lastError ?? '', expected.reason);
  }

  await expected.heal?.();
  await scene.pushGood();
}

/** Pushes an odd config of the target that is no fault: it must be in force like any other. */
export async function checkAccepted(scene: Scene, odd: Resource): Promise<Buffer> {
  await scene.disturb();
  const neighbour = await scene.nextNeighbour();
  const version = scene.push([odd, neighbour], [odd, neighbour]);
  await scene.controlPlane.waitForAck('ecds', { version });
  await scene.assertRestIn(version, neighbour);
  const held = scene.envoy.held(typeUrls.ecds, scene.targetName);
  assert.ok(held !== undefined);
  const seen = await scene.seen(scene.targetName);
  assert.equal(seen?.state, 'active');
  await scene.pushGood();
  return held;
}

/**
 * Does something that ends Envoy's stream; the scene is disturbed already. Checks the status that Envoy gets, that what was in force stays, and
 * that the next stream to a sound control plane takes a good push.
 */
export async function checkStreamEnd(
  scene: Scene,
  breakIt: () => unknown,
  expected: ExpectedEnd,
): Promise<void> {
  const before = scene.heldConfigs();
  const lineCount = scene.agent.logLines.length;
  const ended = scene.envoy.ended;
  breakIt();
  const { grpcStatus, grpcMessage = '' } = await ended;
  assert.match(grpcMessage, expected.text);
  assert.equal(grpcStatus, expected.code);
  const { logLine = /\twarn\txdsproxy\tXDS stream ended\t/ } = expected;
  if (logLine !== 'none') {
    const line = await scene.waitForLine(lineCount, logLine);
    if (expected.logLine === undefined) assert.match(line, expected.text);
  }
  await scene.assertKept(before);
  await scene.reconnect();
  await scene.assertKept(before);
  await scene.pushGood();
}

/** Sends something that is to be dropped with a log line, while the stream goes on as if nothing had come. */
export async function checkDropped(
  scene: Scene,
  send: (stream: AdsStream) => void,
  expected: { readonly logLine: RegExp },
): Promise<void> {
  await scene.disturb();
  const before = scene.heldConfigs();
  const lineCount = scene.agent.logLines.length;
  const { responseCount } = scene.envoy;
  const stream = scene.controlPlane.openStreams.at(-1);
  assert.ok(stream !== undefined);
  send(stream);
  await scene.waitForLine(lineCount, expected.logLine);
  await scene.assertKept(before);
  assert.equal(scene.envoy.responseCount, responseCount, 'Envoy has seen nothing');
  await scene.pushGood();
  assert.equal(scene.controlPlane.openStreams.at(-1), stream, 'on the same stream');
}

/** Does something that istiod must not hear of as a verdict, and that must change nothing. */
export async function checkUnheard(scene: Scene, doIt: () => void | Promise<void>): Promise<void> {
  await scene.disturb();
  const before = scene.heldConfigs();
  const rejectCount = scene.controlPlane.counter('pilot_total_xds_rejects', 'ecds');
  const staleCount = scene.controlPlane.counter('pilot_xds_expired_nonce', 'ecds');
  await doIt();
  await scene.assertKept(before);
  await scene.pushGood();
  assert.equal(scene.controlPlane.counter('pilot_total_xds_rejects', 'ecds'), rejectCount);
  assert.equal(scene.controlPlane.counter('pilot_xds_expired_nonce', 'ecds'), staleCount);
}

/** The agent ends by itself when it is told to, whatever it went through. */
export async function checkStop(scene: Scene): Promise<void> {
  const exit = await scene.agent.stop();
  assert.deepEqual(exit, { code: 0, signal: null, hasLeftProcesses: false });
}

/** Both plugins are in force, with whole module files. */
export async function checkInForce(scene: Scene): Promise<void> {
  await scene.assertKept(scene.heldConfigs());
}

async function assertLogged(
  scene: Scene,
  lineCount: number,
  { reason, logLine }: ExpectedFailure,
): Promise<void> {
  if (logLine !== undefined) await scene.waitForLine(lineCount, logLine);
  else assert.match(await scene.waitForLine(lineCount, /\terror\twasm\t/), reason);
}
