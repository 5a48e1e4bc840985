import assert from 'node:assert/strict';
import { constants } from 'node:http2';
import test from 'node:test';
import {
  checkResponseHeaders,
  classOfUpstreamEnd,
  readGrpcStatus,
  statusOfUpstreamEnd,
  type UpstreamEnd,
} from '../../../agent/xds/upstream-end.ts';

test('each end of istiod has its status and class', () => {
  const cases: readonly (readonly [UpstreamEnd, number, RegExp, string])[] = [
    [{ kind: 'status', status: { code: 0, message: '' } }, 0, /^$/, 'graceful'],
    [{ kind: 'status', status: { code: 1, message: 'bye' } }, 1, /^bye$/, 'expected'],
    [{ kind: 'status', status: { code: 4, message: 'late' } }, 4, /^late$/, 'expected'],
    [{ kind: 'status', status: { code: 16, message: 'who?' } }, 16, /^who\?$/, 'unexpected'],
    [{ kind: 'status', status: { code: 99, message: '' } }, 99, /^$/, 'unexpected'],
    [
      { kind: 'reset', code: constants.NGHTTP2_NO_ERROR },
      13,
      /RST_STREAM with error code: NO_ERROR/,
      'expected',
    ],
    [{ kind: 'reset', code: constants.NGHTTP2_CANCEL }, 1, /CANCEL/, 'expected'],
    [{ kind: 'reset', code: constants.NGHTTP2_REFUSED_STREAM }, 14, /REFUSED_STREAM/, 'unexpected'],
    [{ kind: 'reset', code: constants.NGHTTP2_ENHANCE_YOUR_CALM }, 8, /ENHANCE_YOUR_CALM/, 'unexpected'],
    [{ kind: 'reset', code: constants.NGHTTP2_INADEQUATE_SECURITY }, 7, /INADEQUATE_SECURITY/, 'unexpected'],
    [{ kind: 'reset', code: constants.NGHTTP2_PROTOCOL_ERROR }, 13, /PROTOCOL_ERROR/, 'unexpected'],
    [{ kind: 'reset', code: 4711 }, 13, /code 4711/, 'unexpected'],
    [
      { kind: 'disconnected', error: undefined, goaway: undefined },
      14,
      /^error reading from server: EOF$/,
      'expected',
    ],
    [
      { kind: 'disconnected', error: undefined, goaway: { code: 0, text: 'max_age' } },
      14,
      /EOF, received prior goaway: code: NO_ERROR, debug data: "max_age"$/,
      'expected',
    ],
    [
      { kind: 'disconnected', error: new Error('read ECONNRESET'), goaway: undefined },
      14,
      /read ECONNRESET/,
      'unexpected',
    ],
    [
      { kind: 'disconnected', error: undefined, goaway: { code: 11, text: '' } },
      14,
      /ENHANCE_YOUR_CALM/,
      'unexpected',
    ],
    [{ kind: 'silent', timeoutMs: 10 }, 14, /keepalive PING within 10 ms/, 'unexpected'],
    [{ kind: 'dial-failed', error: new Error('no way') }, 14, /^no way$/, 'unexpected'],
    [{ kind: 'protocol', status: { code: 13, message: 'odd' } }, 13, /^odd$/, 'unexpected'],
  ];
  for (const [end, code, message, endClass] of cases) {
    const status = statusOfUpstreamEnd(end);
    assert.equal(status.code, code, JSON.stringify(end));
    assert.match(status.message, message);
    assert.equal(classOfUpstreamEnd(end), endClass, JSON.stringify(end));
  }
});

test('a status is read from trailers, and a malformed one is UNKNOWN', () => {
  assert.equal(readGrpcStatus({}), undefined);
  assert.deepEqual(readGrpcStatus({ 'grpc-status': '0' }), { code: 0, message: '' });
  assert.deepEqual(readGrpcStatus({ 'grpc-status': '7', 'grpc-message': 'a%20b%25' }), {
    code: 7,
    message: 'a b%',
  });
  for (const text of ['', '-1', 'x', '1.5', '99999999999']) {
    assert.equal(readGrpcStatus({ 'grpc-status': text, 'grpc-message': 'm' })?.code, 2, text);
  }
});

test('an answer that is no gRPC has the status of the HTTP mapping', () => {
  assert.equal(checkResponseHeaders(200, { 'content-type': 'application/grpc' }), undefined);
  assert.equal(checkResponseHeaders(200, { 'content-type': 'application/grpc+proto' }), undefined);
  assert.equal(checkResponseHeaders(200, { 'content-type': 'application/grpcx' })?.code, 2);
  assert.equal(checkResponseHeaders(200, { 'content-type': 'text/html' })?.code, 2);
  const mapping = [400, 401, 403, 404, 429, 502, 503, 504, 500, 302, undefined].map(
    (httpStatus) => checkResponseHeaders(httpStatus, {})?.code,
  );
  assert.deepEqual(mapping, [13, 16, 7, 12, 14, 14, 14, 14, 2, 2, 2]);
  assert.equal(checkResponseHeaders(503, { 'grpc-status': '9' })?.code, 9);
});
