import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { XdsRequest } from '../../support/control-plane/discovery-messages.ts';
import { typeUrls } from '../../support/control-plane/type-urls.ts';
import {
  afterResponse,
  type Decision,
  decideDelta,
  decideSotw,
  newWatch,
  type Watch,
} from '../../support/control-plane/watch.ts';

const { ecds, lds, cds } = typeUrls;

function request(typeUrl: string, parts: Partial<XdsRequest> = {}): XdsRequest {
  return { typeUrl, nonce: '', version: '', names: [], unsubscribe: [], initialVersions: {}, ...parts };
}

function watching(typeUrl: string, ...names: string[]): Watch {
  return afterResponse(newWatch(typeUrl, new Set(names)), { nonce: 'n1', version: 'v1' });
}

function answered({ answer }: Decision): string {
  if (answer === undefined) return 'nothing';
  return answer.kind === 'watched' ? 'watched' : [...answer.names].sort().join(',');
}

interface Row {
  readonly name: string;
  readonly before: Watch | undefined;
  readonly request: XdsRequest;
  readonly verdict: Decision['verdict'];
  readonly answer: string;
  /** Names afterwards; undefined when the type is not watched any more. */
  readonly names?: string;
}

const error = { code: 13, message: 'no' };

const sotwRows: readonly Row[] = [
  {
    name: 'a first request is answered',
    before: undefined,
    request: request(ecds, { names: ['a'] }),
    verdict: 'subscribe',
    answer: 'watched',
    names: 'a',
  },
  {
    name: 'a first request with a nonce of another istiod is answered',
    before: undefined,
    request: request(ecds, { names: ['a'], nonce: 'old' }),
    verdict: 'subscribe',
    answer: 'watched',
    names: 'a',
  },
  {
    name: 'a wildcard type needs no names',
    before: undefined,
    request: request(cds),
    verdict: 'subscribe',
    answer: 'watched',
    names: '',
  },
  {
    name: 'the current nonce with the same names is an ACK',
    before: watching(ecds, 'a'),
    request: request(ecds, { names: ['a'], nonce: 'n1' }),
    verdict: 'ack',
    answer: 'nothing',
    names: 'a',
  },
  {
    name: 'a new name with the current nonce is an ACK, and only the new name is answered',
    before: watching(ecds, 'a'),
    request: request(ecds, { names: ['a', 'b'], nonce: 'n1' }),
    verdict: 'ack',
    answer: 'b',
    names: 'a,b',
  },
  {
    name: 'a new name with a stale nonce is dropped',
    before: watching(ecds, 'a'),
    request: request(ecds, { names: ['a', 'b'], nonce: 'n0' }),
    verdict: 'stale',
    answer: 'nothing',
    names: 'a',
  },
  {
    name: 'fewer names of a named type are not answered',
    before: watching(ecds, 'a', 'b'),
    request: request(ecds, { names: ['a'], nonce: 'n1' }),
    verdict: 'ack',
    answer: 'nothing',
    names: 'a',
  },
  {
    name: 'an ACK without names of a named type unsubscribes',
    before: watching(ecds, 'a'),
    request: request(ecds, { nonce: 'n1' }),
    verdict: 'unsubscribe',
    answer: 'nothing',
  },
  {
    name: 'a stale ACK is ignored',
    before: watching(lds),
    request: request(lds, { nonce: 'n0' }),
    verdict: 'stale',
    answer: 'nothing',
    names: '',
  },
  {
    name: 'a NACK without names keeps the subscription',
    before: watching(ecds, 'a'),
    request: request(ecds, { nonce: 'n1', error }),
    verdict: 'nack',
    answer: 'nothing',
    names: 'a',
  },
  {
    name: 'a stale NACK counts',
    before: watching(ecds, 'a'),
    request: request(ecds, { nonce: 'n0', error }),
    verdict: 'stale_nack',
    answer: 'nothing',
    names: 'a',
  },
  {
    name: 'a request without a nonce starts over',
    before: watching(ecds, 'a'),
    request: request(ecds, { names: ['a'] }),
    verdict: 'subscribe',
    answer: 'watched',
    names: 'a',
  },
  {
    name: 'endpoints are answered again after clusters were',
    before: { ...watching(typeUrls.eds, 'a'), mustAnswer: true },
    request: request(typeUrls.eds, { names: ['a'], nonce: 'n1' }),
    verdict: 'ack',
    answer: 'watched',
    names: 'a',
  },
];

const deltaRows: readonly Row[] = [
  {
    name: 'a first wildcard request is answered with everything',
    before: undefined,
    request: request(cds),
    verdict: 'subscribe',
    answer: 'watched',
    names: '',
  },
  {
    name: 'a first request for names is answered with them',
    before: undefined,
    request: request(ecds, { names: ['a'] }),
    verdict: 'subscribe',
    answer: 'a',
    names: 'a',
  },
  {
    name: 'kept resources count as asked for',
    before: undefined,
    request: request(cds, { initialVersions: { a: '' } }),
    verdict: 'subscribe',
    answer: 'a',
    names: 'a',
  },
  {
    name: 'type and nonce are an ACK',
    before: watching(ecds, 'a'),
    request: request(ecds, { nonce: 'n1' }),
    verdict: 'ack',
    answer: 'nothing',
    names: 'a',
  },
  {
    name: 'a new name is answered alone',
    before: watching(ecds, 'a'),
    request: request(ecds, { names: ['b'] }),
    verdict: 'subscribe',
    answer: 'b',
    names: 'a,b',
  },
  {
    name: 'a name that is watched already is not answered',
    before: watching(ecds, 'a'),
    request: request(ecds, { names: ['a'] }),
    verdict: 'subscribe',
    answer: 'nothing',
    names: 'a',
  },
  {
    name: 'a new name with a stale nonce is dropped',
    before: watching(ecds, 'a'),
    request: request(ecds, { names: ['b'], nonce: 'n0' }),
    verdict: 'stale',
    answer: 'nothing',
    names: 'a',
  },
  {
    name: 'an unsubscribe asks for no resource',
    before: watching(ecds, 'a', 'b'),
    request: request(ecds, { unsubscribe: ['a'] }),
    verdict: 'unsubscribe',
    answer: '',
    names: 'b',
  },
  {
    name: 'the wildcard is no name',
    before: undefined,
    request: request(cds, { names: ['*'] }),
    verdict: 'subscribe',
    answer: 'watched',
    names: '',
  },
  {
    name: 'a stale ACK is ignored',
    before: watching(lds),
    request: request(lds, { nonce: 'n0' }),
    verdict: 'stale',
    answer: 'nothing',
    names: '',
  },
  {
    name: 'a NACK of the last response',
    before: watching(ecds, 'a'),
    request: request(ecds, { nonce: 'n1', error }),
    verdict: 'nack',
    answer: 'nothing',
    names: 'a',
  },
  {
    name: 'a stale NACK counts',
    before: watching(ecds, 'a'),
    request: request(ecds, { nonce: 'n0', error }),
    verdict: 'stale_nack',
    answer: 'nothing',
    names: 'a',
  },
];

for (const { mode, decide, rows } of [
  { mode: 'state of the world', decide: decideSotw, rows: sotwRows },
  { mode: 'delta', decide: decideDelta, rows: deltaRows },
]) {
  describe(`in ${mode}`, () => {
    for (const row of rows) {
      test(row.name, () => {
        const decision = decide(row.before, row.request);
        assert.equal(decision.verdict, row.verdict);
        assert.equal(answered(decision), row.answer);
        assert.equal(
          decision.watch === undefined ? undefined : [...decision.watch.names].sort().join(','),
          row.names,
        );
      });
    }

    test('an error stands until the current response is acknowledged', () => {
      const before = watching(ecds, 'a');
      const names = mode === 'delta' ? [] : ['a'];
      const rejected = decide(before, request(ecds, { nonce: 'n1', error })).watch;
      assert.equal(rejected?.lastError, 'no');
      const stale = decide(rejected, request(ecds, { nonce: 'n0', names })).watch;
      assert.equal(stale?.lastError, 'no');
      const accepted = decide(stale, request(ecds, { nonce: 'n1', names })).watch;
      assert.equal(accepted?.lastError, '');
      assert.equal(accepted?.nonceAcked, 'n1');
    });
  });
}
