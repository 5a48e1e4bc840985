import assert from 'node:assert/strict';
import test from 'node:test';
import type { SecretRequest } from '../../../agent/identity/secret-messages.ts';
import { judgeRequest, type Subscription } from '../../../agent/identity/secret-subscription.ts';

const watching = (names: readonly string[], sentNonce = 'sent'): Subscription => ({
  names: new Set(names),
  sentNonce,
});

const cases: readonly {
  readonly name: string;
  readonly current?: Subscription;
  readonly request: Partial<SecretRequest>;
  /** Names to answer, or why nothing is answered. */
  readonly verdict: readonly string[] | string;
  /** Watched afterwards; absent: nothing. */
  readonly watched?: readonly string[];
}[] = [
  {
    name: 'the first request is answered with all its names',
    request: { names: ['default', 'ROOTCA'] },
    verdict: ['default', 'ROOTCA'],
    watched: ['default', 'ROOTCA'],
  },
  {
    name: 'a name that is repeated counts once',
    request: { names: ['default', 'default'] },
    verdict: ['default'],
    watched: ['default'],
  },
  {
    name: 'a first request with the nonce of an old stream is answered',
    request: { names: ['default'], nonce: 'of another stream' },
    verdict: ['default'],
    watched: ['default'],
  },
  {
    name: 'a first request without names subscribes to nothing',
    request: { names: [] },
    verdict: 'unsubscribed',
  },
  {
    name: 'the same names under the sent nonce are an ACK',
    current: watching(['default']),
    request: { names: ['default'], nonce: 'sent' },
    verdict: 'acknowledged',
    watched: ['default'],
  },
  {
    name: 'an older nonce is stale and changes nothing',
    current: watching(['default']),
    request: { names: ['other'], nonce: 'older' },
    verdict: 'stale',
    watched: ['default'],
  },
  {
    name: 'added names are answered alone',
    current: watching(['default']),
    request: { names: ['default', 'ROOTCA', 'file-root:/a'], nonce: 'sent' },
    verdict: ['ROOTCA', 'file-root:/a'],
    watched: ['default', 'ROOTCA', 'file-root:/a'],
  },
  {
    name: 'a name that replaces another is answered',
    current: watching(['default']),
    request: { names: ['ROOTCA'], nonce: 'sent' },
    verdict: ['ROOTCA'],
    watched: ['ROOTCA'],
  },
  {
    name: 'names that are only left out need no answer',
    current: watching(['default', 'ROOTCA']),
    request: { names: ['ROOTCA'], nonce: 'sent' },
    verdict: 'acknowledged',
    watched: ['ROOTCA'],
  },
  {
    name: 'no names at all end the subscription',
    current: watching(['default']),
    request: { names: [], nonce: 'sent' },
    verdict: 'unsubscribed',
  },
  {
    name: 'no names at all end it also under a stale nonce',
    current: watching(['default']),
    request: { names: [], nonce: 'older' },
    verdict: 'unsubscribed',
  },
  {
    name: 'after that any request subscribes anew',
    request: { names: ['default'], nonce: 'sent' },
    verdict: ['default'],
    watched: ['default'],
  },
  {
    name: 'a request without a nonce subscribes anew and gets all names',
    current: watching(['default']),
    request: { names: ['default', 'ROOTCA'] },
    verdict: ['default', 'ROOTCA'],
    watched: ['default', 'ROOTCA'],
  },
  {
    name: 'a NACK is not answered and keeps the watch',
    current: watching(['default']),
    request: { names: ['default'], nonce: 'sent', rejection: { code: 13, message: 'no' } },
    verdict: 'rejected',
    watched: ['default'],
  },
  {
    name: 'a NACK without names keeps the watch too',
    current: watching(['default']),
    request: { names: [], nonce: 'sent', rejection: { code: 13, message: 'no' } },
    verdict: 'rejected',
    watched: ['default'],
  },
  {
    name: 'a NACK on a stream that watches nothing does nothing',
    request: { names: ['default'], rejection: { code: 13, message: 'no' } },
    verdict: 'rejected',
  },
];

for (const { name, current, request, verdict, watched } of cases) {
  test(name, () => {
    const judged = judgeRequest(current, {
      nodeId: '',
      names: [],
      nonce: '',
      rejection: undefined,
      ...request,
    });
    assert.deepEqual(judged.kind === 'answer' ? judged.names : judged.reason, verdict);
    assert.deepEqual(judged.subscription && [...judged.subscription.names], watched);
  });
}
