import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SeededRandom } from '../support/seeded-random.ts';
import { type FleetPush, type RegistryModel, simulatePush, simulateReconnect } from './scale-model.ts';

const push: FleetPush = { agentCount: 500, moduleBytes: 1_000_000, spreadMs: 5_000, fetchTimeoutMs: 30_000 };
const registry: RegistryModel = {
  bytesPerSecond: 1_000_000_000,
  agentBytesPerSecond: 100_000_000,
  pullRequestCount: 2,
  outageMs: 0,
  pullsPerSecond: undefined,
  retryAfterMs: undefined,
};

describe('the model of a push to a fleet', () => {
  test('has one pull an agent, and all bytes once, while nothing is short', () => {
    const outcome = simulatePush(push, registry, new SeededRandom(1));
    assert.equal(outcome.requestCount, 1000);
    assert.equal(Math.round(outcome.transferredBytes), 500_000_000);
    assert.equal(outcome.wastedBytes, 0);
    assert.equal(outcome.refusedPushCount, 0);
    assert.ok(outcome.lastMs !== undefined && outcome.lastMs < 5_500);
  });

  test('makes the same of the same seed', () => {
    const run = () => simulatePush(push, { ...registry, outageMs: 20_000 }, new SeededRandom(7));
    assert.deepEqual(run(), run());
  });

  test('brings everyone back after an outage, the last after the longest wait at the most', () => {
    for (const outageMs of [5_000, 60_000, 600_000]) {
      const outcome = simulatePush(push, { ...registry, outageMs }, new SeededRandom(3));
      assert.ok(outcome.lastMs !== undefined, `${outageMs}`);
      // 90 s is the longest pause between pulls; tries within one and the download come on top.
      assert.ok(outcome.lastMs < 95_000, `${outcome.lastMs}`);
      assert.ok(outcome.refusedCount > 0 && outcome.requestCount > outcome.refusedCount);
    }
  });

  test('wastes bytes when the registry is too narrow for the deadline, and accounts for each', () => {
    const narrow = { ...registry, bytesPerSecond: 10_000_000 };
    const outcome = simulatePush({ ...push, moduleBytes: 2_000_000 }, narrow, new SeededRandom(3));
    assert.ok(outcome.wastedBytes > 0);
    assert.ok(outcome.lastMs !== undefined);
    assert.ok(Math.abs(outcome.transferredBytes - outcome.wastedBytes - 1_000_000_000) < 1_000);
  });

  test('spreads those who were told to come back after the same time', () => {
    const limited = { ...registry, pullsPerSecond: 20, retryAfterMs: 30_000 };
    const outcome = simulatePush({ ...push, spreadMs: 1_000 }, limited, new SeededRandom(3));
    assert.ok(outcome.lastMs !== undefined);
    // Without the spread, all but twenty of a second would be refused again and again in step.
    assert.ok(outcome.requestCount < 2_500, `${outcome.requestCount}`);
  });
});

describe('the model of a control plane that comes back', () => {
  test('has everyone connected within the longest wait of Envoy and of the agent', () => {
    for (const outageMs of [3_000, 60_000, 600_000]) {
      const outcome = simulateReconnect(1_000, outageMs, new SeededRandom(5));
      assert.ok(outcome.lastMs <= 34_000, `${outcome.lastMs}`);
      assert.ok(outcome.medianMs < outcome.lastMs);
      assert.ok(outcome.refusedCount > 1_000);
    }
  });
});
