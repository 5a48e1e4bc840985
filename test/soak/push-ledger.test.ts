import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { typeUrls } from '../support/control-plane/type-urls.ts';
import { PushLedger } from './push-ledger.ts';

const streamId = 1;

/** A ledger after these steps: `push n`, `ack n`, `nack n` of a type, or `end`. */
function ledgerAfter(mode: 'delta' | 'sotw', typeUrl: string, steps: string): PushLedger {
  const ledger = new PushLedger();
  ledger.take({ kind: 'stream_opened', streamId, mode });
  for (const step of steps.split(', ')) {
    const [verb, nonce = ''] = step.split(' ');
    if (verb === 'push') ledger.take({ kind: 'response', streamId, typeUrl, nonce });
    else if (verb === 'end') ledger.take({ kind: 'stream_ended', streamId });
    else {
      const error = verb === 'nack' ? { error: { code: 13 } } : {};
      ledger.take({ kind: 'request', streamId, request: { typeUrl, nonce, ...error } });
    }
  }
  return ledger;
}

describe('the ledger of pushes', () => {
  test('counts what was answered and what waits', () => {
    const ledger = ledgerAfter('delta', typeUrls.cds, 'push a, ack a, push b, nack b, push c');
    assert.deepEqual(ledger.totals, {
      pushCount: 3,
      ackCount: 1,
      nackCount: 1,
      healedCount: 0,
      supersededCount: 0,
      cutCount: 0,
      openCount: 1,
    });
    assert.deepEqual(ledger.unanswered(), [`stream 1, ${typeUrls.cds}, nonce c`]);
    assert.equal(ledger.problemCount, 0);
  });

  test('wants a verdict for each relayed push, whatever follows it', () => {
    const ledger = ledgerAfter('delta', typeUrls.cds, 'push a, push b, ack b');
    assert.deepEqual(ledger.unanswered(), [`stream 1, ${typeUrls.cds}, nonce a`]);
  });

  test('wants only the newest extension push answered', () => {
    const ledger = ledgerAfter('delta', typeUrls.ecds, 'push a, push b, push c, ack c');
    assert.deepEqual(ledger.unanswered(), []);
    assert.equal(ledger.totals.supersededCount, 2);
    assert.equal(ledgerAfter('delta', typeUrls.ecds, 'push a, push b').unanswered().length, 1);
  });

  test('takes one ACK after the NACK of an extension push for healing, and nothing else', () => {
    const healed = ledgerAfter('delta', typeUrls.ecds, 'push a, nack a, ack a');
    assert.equal(healed.totals.healedCount, 1);
    assert.equal(healed.problemCount, 0);
    const wrong = [
      'push a, ack a, ack a',
      'push a, ack a, nack a',
      'push a, nack a, nack a',
      'push a, nack a, ack a, ack a',
    ];
    for (const steps of wrong) {
      assert.equal(ledgerAfter('delta', typeUrls.ecds, steps).problemCount, 1, steps);
    }
    assert.equal(ledgerAfter('delta', typeUrls.cds, 'push a, nack a, ack a').problemCount, 1);
  });

  test('takes a verdict on an older or unknown push for a broken promise', () => {
    const stale = ledgerAfter('delta', typeUrls.cds, 'push a, ack a, push b, ack b, ack a');
    assert.match(stale.problems[0] ?? '', /ack of an unknown or settled push: stream 1, .* nonce a/);
    assert.equal(ledgerAfter('delta', typeUrls.cds, 'push a, nack z').problemCount, 1);
  });

  test('lets a state of the world repeat its ACKs with other names', () => {
    const ledger = ledgerAfter('sotw', typeUrls.eds, 'push a, ack a, ack a, push b, ack a, ack b, nack b');
    assert.equal(ledger.problemCount, 0);
    assert.equal(ledgerAfter('sotw', typeUrls.ecds, 'push a, nack a, nack a').problemCount, 1);
  });

  test('lets go of what an ended stream owed', () => {
    const ledger = ledgerAfter('delta', typeUrls.cds, 'push a, push b, ack b, end');
    assert.deepEqual(ledger.unanswered(), []);
    assert.equal(ledger.totals.cutCount, 1);
  });

  test('forgets what is settled', () => {
    const ledger = new PushLedger();
    ledger.take({ kind: 'stream_opened', streamId, mode: 'delta' });
    for (let index = 0; index < 100_000; index += 1) {
      const nonce = String(index);
      ledger.take({ kind: 'response', streamId, typeUrl: typeUrls.cds, nonce });
      ledger.take({ kind: 'request', streamId, request: { typeUrl: typeUrls.cds, nonce } });
    }
    assert.equal(ledger.totals.ackCount, 100_000);
    assert.equal(ledger.problemCount, 0);
  });
});
