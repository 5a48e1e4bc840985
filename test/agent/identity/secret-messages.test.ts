import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import {
  decodeSecretRequest,
  encodeSecretResponse,
  type Secret,
  secretTypeUrl,
} from '../../../agent/identity/secret-messages.ts';
import { readFields, WireFormatError } from '../../../proto/wire.ts';
import { discoveryType } from '../../support/control-plane/proto-definitions.ts';
import { recordedMessages, recordingSkipReason } from './recording.ts';
import { decodeSecretResponse } from './secret-codec.ts';

const noExtras = { crlPath: undefined, keyProvider: undefined };

test('every recorded request is read as it was meant', { skip: recordingSkipReason }, () => {
  const requests = recordedMessages('sds').filter(
    ({ dir, method }) => dir === 'client>agent' && method.endsWith('/StreamSecrets'),
  );
  assert.ok(requests.length > 10);
  for (const { bytes, names, nonce } of requests) {
    const read = decodeSecretRequest(bytes);
    assert.deepEqual([read.names, read.nonce, read.rejection], [names, nonce, undefined]);
    // Only the first request of a stream carries the node.
    assert.equal(read.nodeId === '', nonce !== '');
    if (nonce === '') assert.match(read.nodeId, /^router~127\.0\.0\.1~gw-0\.istio-system~/);
  }
});

test('every recorded answer comes out byte for byte from its contents', { skip: recordingSkipReason }, () => {
  const answers = recordedMessages('sds').filter(({ dir }) => dir === 'agent>client');
  assert.ok(answers.length >= 9);
  for (const { bytes } of answers) {
    const { version, nonce, secrets } = decodeSecretResponse(bytes);
    assert.deepEqual(encodeSecretResponse({ version, nonce, secrets }, noExtras), bytes);
  }
});

test('a request with a NACK is read by us as another codec wrote it', () => {
  const type = discoveryType('envoy.service.discovery.v3.DiscoveryRequest');
  const bytes = type.serialize({
    version_info: 'v1',
    node: { id: 'sidecar~1', cluster: 'c', metadata: { fields: { A: { stringValue: 'b' } } } },
    resource_names: ['default', 'ROOTCA', 'default'],
    type_url: secretTypeUrl,
    response_nonce: 'n-1',
    error_detail: { code: 13, message: 'Failed to load certificate chain' },
  });
  assert.deepEqual(decodeSecretRequest(bytes), {
    nodeId: 'sidecar~1',
    names: ['default', 'ROOTCA', 'default'],
    nonce: 'n-1',
    rejection: { code: 13, message: 'Failed to load certificate chain' },
  });
});

test('roots carry the revocation list where there is one, key pairs do not', () => {
  const secrets: readonly Secret[] = [
    { kind: 'roots', name: 'ROOTCA', certificates: Buffer.from('roots') },
    {
      kind: 'key-pair',
      name: 'default',
      certificateChain: Buffer.from('chain'),
      privateKey: Buffer.from('key'),
    },
  ];
  const bytes = encodeSecretResponse(
    { version: 'v', nonce: 'n', secrets },
    { ...noExtras, crlPath: '/crl.pem' },
  );
  const [roots, pair] = decodeSecretResponse(bytes).raw;
  assert.equal(roots?.validation_context?.crl?.filename, '/crl.pem');
  assert.ok(pair?.tls_certificate && !pair.validation_context);
});

for (const name of ['cryptomb', 'qat'] as const) {
  test(`with the key provider ${name} the key is in its configuration and nowhere else`, () => {
    const secret: Secret = {
      kind: 'key-pair',
      name: 'default',
      certificateChain: Buffer.from('chain'),
      privateKey: Buffer.from('the key'),
    };
    const bytes = encodeSecretResponse(
      { version: 'v', nonce: 'n', secrets: [secret] },
      { ...noExtras, keyProvider: { name, pollDelayNanos: 20_000_000, isFallbackAllowed: true } },
    );
    const [pair] = decodeSecretResponse(bytes).raw;
    assert.equal(pair?.tls_certificate?.private_key, null);
    const provider = pair?.tls_certificate?.private_key_provider;
    assert.deepEqual([provider?.provider_name, provider?.fallback], [name, true]);
    const config = provider?.typed_config;
    assert.match(config?.type_url ?? '', new RegExp(`private_key_providers\\.${name}\\.v3alpha\\.`));
    // private_key { inline_bytes: "the key" }, poll_delay { nanos: 20000000 }.
    const key = `0a091207${Buffer.from('the key').toString('hex')}`;
    assert.equal(config?.value.toString('hex'), `${key}12051080dac409`);
  });
}

test('whatever bytes a client sends, they are read or refused, never worse', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      try {
        decodeSecretRequest(Buffer.from(bytes));
      } catch (error) {
        assert.ok(error instanceof WireFormatError, String(error));
      }
    }),
    { numRuns: 2000, seed: 7 },
  );
});

test('a request that is cut anywhere is refused or is a shorter request', () => {
  const type = discoveryType('envoy.service.discovery.v3.DiscoveryRequest');
  const whole = type.serialize({ node: { id: 'abc' }, resource_names: ['default'], response_nonce: 'n' });
  for (let length = 0; length < whole.length; length += 1) {
    try {
      const read = decodeSecretRequest(whole.subarray(0, length));
      assert.ok(['', 'abc'].includes(read.nodeId));
    } catch (error) {
      assert.ok(error instanceof WireFormatError, String(error));
    }
  }
});

for (const [what, hex] of [
  ['a field number of 0', '00'],
  ['a group', '0b'],
  ['a number without end', 'ff'.repeat(12)],
  ['a length beyond the message', '1a7f61'],
  ['a length of 2^63', '1affffffffffffffff7f'],
  ['a fixed field that is cut', '0d0000'],
] as const) {
  test(`protobuf with ${what} is refused`, () => {
    assert.throws(() => [...readFields(Buffer.from(hex, 'hex'))], WireFormatError);
  });
}

test('a name that is not UTF-8 is refused', () => {
  assert.throws(() => decodeSecretRequest(Buffer.from('1a02c328', 'hex')), WireFormatError);
});

test('unknown fields of every wire type are skipped', () => {
  const unknown = { varint: '5001', fixed32: '5d01020304', fixed64: '610102030405060708', bytes: 'f2060161' };
  const bytes = Buffer.from(`${Object.values(unknown).join('')}1a0764656661756c74`, 'hex');
  assert.deepEqual(decodeSecretRequest(bytes).names, ['default']);
});
