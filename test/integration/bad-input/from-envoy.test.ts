import assert from 'node:assert/strict';
import { once } from 'node:events';
import { constants } from 'node:http2';
import { connect } from 'node:net';
import test from 'node:test';
import { wasmModule } from '../../agent/fetch/module-bytes.ts';
import { frame, openRawEnvoy, service } from '../../agent/xds/raw-peers.ts';
import { encodeRequest } from '../../support/control-plane/discovery-messages.ts';
import { ProtoWriter } from '../../support/control-plane/proto-writer.ts';
import { typeUrls } from '../../support/control-plane/type-urls.ts';
import { checkRefused, checkStop, checkStreamEnd, checkUnheard, type ExpectedEnd } from './checks.ts';
import { modes } from './played-envoy.ts';
import { Scene } from './scene.ts';

/** gRPC framing with any flag and length. */
function header(flag: number, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes[0] = flag;
  bytes.writeUInt32BE(lengthBytes, 1);
  return bytes;
}

/** An ECDS request for both plugins. */
function request(scene: Scene): Buffer {
  return encodeRequest(scene.mode, {
    typeUrl: typeUrls.ecds,
    names: [scene.targetName, scene.neighbourName],
  });
}

/** An ECDS request with a name that is no text; the field of names differs between the two forms. */
function requestWithBadName(scene: Scene): Buffer {
  const typeField = scene.mode === 'delta' ? 2 : 4;
  return new ProtoWriter().text(typeField, typeUrls.ecds).bytes(3, Buffer.of(0xff, 0xfe)).finish();
}

interface BytesCase extends ExpectedEnd {
  readonly input: string;
  /** Goes onto Envoy's stream as it is. */
  readonly bytes: (scene: Scene) => Buffer;
}

const bytesCases: readonly BytesCase[] = [
  {
    input: 'a request that is cut inside a field',
    bytes: (scene) => frame(request(scene).subarray(0, 100)),
    code: 13,
    text: /request of 100 bytes is no discovery request: .* \(at byte \d+\)/,
  },
  {
    input: 'a request with a wire type that protobuf no longer has',
    bytes: () => frame(Buffer.of(0x0b, 0x01, 0x02)),
    code: 13,
    text: /request of 3 bytes is no discovery request: wire type 3 of field 1 is not used in discovery messages/,
  },
  {
    input: 'a request with a field that claims 4 GB',
    bytes: () => frame(Buffer.of(0x1a, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x00)),
    code: 13,
    text: /request of 7 bytes is no discovery request: a field of 4294967295 bytes runs over the end of its message/,
  },
  {
    input: 'an ECDS request with a name that is not UTF-8',
    bytes: (scene) => frame(requestWithBadName(scene)),
    code: 3,
    text: /ECDS request from Envoy does not decode \(\d+ bytes\): the text before byte \d+ is not UTF-8/,
    logLine: /\terror\txdsproxy\tECDS request does not decode\t.*is not UTF-8/,
  },
  {
    input: 'a gRPC length prefix of 4 GB',
    bytes: () => header(0, 2 ** 32 - 1),
    code: 8,
    text: /request of 4294967295 bytes is larger than the bound of 4194304 bytes: raise ISTIO_GPRC_MAXRECVMSGSIZE on the proxy/,
  },
  {
    input: 'a request one byte over the bound',
    bytes: () => header(0, 4 * 1024 * 1024 + 1),
    code: 8,
    text: /request of 4194305 bytes is larger than the bound of 4194304 bytes: raise ISTIO_GPRC_MAXRECVMSGSIZE on the proxy/,
  },
  {
    input: 'the compressed flag',
    bytes: (scene) => frame(request(scene), 1),
    code: 13,
    text: /request has compressed flag 1, but the agent offers no compression: send it uncompressed/,
  },
];

for (const mode of modes) {
  test(`bad input from Envoy over ${mode}`, async (t) => {
    const scene = await Scene.start(t, { mode });
    const socketPath = scene.workspace.path('etc/istio/proxy/XDS');

    for (const { input, bytes, ...expected } of bytesCases) {
      await t.test(input, async () => {
        await scene.disturb();
        await checkStreamEnd(scene, () => scene.envoy.peer.stream.write(bytes(scene)), expected);
      });
    }

    await t.test('a stream that is reset in the middle of a request', async () => {
      await checkUnheard(scene, async () => {
        const { stream } = scene.envoy.peer;
        const closed = scene.controlPlane.openStreams.at(-1)?.ended;
        stream.write(frame(request(scene)).subarray(0, 40), () => stream.close(constants.NGHTTP2_CANCEL));
        await closed;
        await scene.reconnect();
      });
    });

    await t.test('a stream that ends in the middle of a request', async () => {
      await checkUnheard(scene, async () => {
        const { stream } = scene.envoy.peer;
        stream.end(frame(request(scene)).subarray(0, 40));
        const { grpcStatus } = await scene.envoy.ended;
        assert.equal(grpcStatus, 0);
        await scene.reconnect();
      });
    });

    await t.test('an ACK and a NACK for nonces that nobody gave', async () => {
      await checkUnheard(scene, () => {
        const names = mode === 'sotw' ? [scene.targetName, scene.neighbourName] : [];
        const answer = { typeUrl: typeUrls.ecds, names, nonce: 'never-given' };
        scene.envoy.peer.send(
          encodeRequest(mode, answer),
          encodeRequest(mode, { ...answer, error: { code: 13, message: 'no reason at all' } }),
        );
      });
    });

    await t.test('the same ACK a second time', async () => {
      await checkUnheard(scene, () => {
        const names = mode === 'sotw' ? [scene.targetName, scene.neighbourName] : [];
        const nonce = scene.envoy.nonceOf(typeUrls.ecds);
        scene.envoy.peer.send(encodeRequest(mode, { typeUrl: typeUrls.ecds, names, nonce }));
      });
    });

    await t.test('an unknown method, another verb and another content type', async () => {
      await checkUnheard(scene, async () => {
        const method = openRawEnvoy(t, socketPath, { headers: { ':path': `${service}/Fetch` } });
        const unknown = await method.ended;
        assert.equal(unknown.grpcStatus, 12);
        assert.match(unknown.grpcMessage ?? '', /unknown method \S+\/Fetch: the agent serves \S+ and \S+/);
        const verb = await openRawEnvoy(t, socketPath, { headers: { ':method': 'PUT' } }).ended;
        assert.equal(verb.httpStatus, 405);
        const json = openRawEnvoy(t, socketPath, { headers: { 'content-type': 'application/json' } });
        assert.equal((await json.ended).httpStatus, 415);
      });
    });

    await t.test('bytes that are no HTTP/2', async () => {
      await checkUnheard(scene, async () => {
        const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
        for (const bytes of ['GET / HTTP/1.1\r\n\r\n', `${preface}${'\xff'.repeat(64)}`]) {
          const socket = connect(socketPath);
          socket.on('error', () => undefined);
          socket.resume();
          socket.write(Buffer.from(bytes, 'latin1'));
          await once(socket, 'close');
        }
      });
    });

    await t.test('a NACK with a text of a megabyte goes up cut', async () => {
      await scene.ready();
      const text = 'x'.repeat(1_000_000);
      scene.envoy.refusal = ({ value }) => (value.includes('odd.wasm') ? text : undefined);
      const odd = await scene.workspace.write('odd.wasm', wasmModule('odd'));
      await checkRefused(scene, [scene.target(`file://${odd}`)], {
        reason: /x{1000}/,
        logLine: /\twarn\twasm\tEnvoy rejected an extension config\t/,
      });
    });

    await t.test('the agent still ends when it is told to', async () => checkStop(scene));
  });
}
