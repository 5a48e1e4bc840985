import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { waitUntilReady } from '../../../agent/cli/wait.ts';
import { freePorts } from '../../support/free-ports.ts';
import { ScriptedServer } from '../../support/scripted-server.ts';
import { RecordingLog } from '../status/status-fixture.ts';
import { runCommand } from './command-process.ts';

const text = (status: number, body = '') => ({
  status,
  content: { kind: 'bytes' as const, bytes: Buffer.from(body) },
});

const quick = ['--periodMillis', '20', '--requestTimeoutMillis=2000', '--timeoutSeconds=20'];

describe('wait', () => {
  test('returns at the first 200', async (context) => {
    const answers = [503, 404];
    const server = await ScriptedServer.start({ answer: () => text(answers.shift() ?? 200) });
    context.after(() => server.close());
    const { code, stdout, stderr } = await runCommand([
      'wait',
      '--url',
      `${server.url}/healthz/ready`,
      ...quick,
    ]);
    assert.equal(code, 0);
    assert.equal(stderr, '');
    assert.match(
      stdout,
      /\tinfo\tWaiting for Envoy proxy to be ready \(timeout: 20 seconds\)\.\.\.\n.*\tinfo\tEnvoy is ready!\n$/,
    );
    assert.deepEqual(
      server.requests.map(({ method, path }) => `${method} ${path}`),
      Array(3).fill('GET /healthz/ready'),
    );
  });

  test('fails after its time, with the last failure', async (context) => {
    const server = await ScriptedServer.start({ answer: () => text(503) });
    context.after(() => server.close());
    const words = ['wait', `--url=${server.url}/x`, '--timeoutSeconds', '1', '--periodMillis', '200'];
    const refused = await runCommand(words);
    assert.equal(refused.code, 255);
    assert.equal(
      refused.stderr,
      'Error: timeout waiting for Envoy proxy to become ready. Last error: HTTP status code 503\n',
    );
    assert.ok(server.requests.length >= 1);
    const [port] = await freePorts(1);
    const nobody = await runCommand(['wait', `--url=http://localhost:${port}/x`, ...words.slice(2)]);
    assert.match(nobody.stderr, /Last error: GET http:\/\/localhost:\d+\/x: .*ECONNREFUSED/);
  });

  test('bounds each request', async (context) => {
    const server = await ScriptedServer.start({ answer: () => text(200, 'late') });
    context.after(() => server.close());
    server.script({}, { kind: 'delay', until: () => new Promise(() => {}) });
    const words = ['--requestTimeoutMillis=100', '--timeoutSeconds=1', '--periodMillis=100'];
    const { code, stderr } = await runCommand(['wait', `--url=${server.url}`, ...words]);
    assert.equal(code, 255);
    assert.match(stderr, /no full answer within 100 ms/);
  });

  test('is not ended by a clock that is set forward meanwhile', async (context) => {
    const { now } = Date;
    let aheadMs = 0;
    context.mock.method(Date, 'now', () => now() + aheadMs);
    const answers = [503];
    const server = await ScriptedServer.start({
      answer: () => {
        aheadMs = 86_400_000;
        return text(answers.shift() ?? 200);
      },
    });
    context.after(() => server.close());
    const options = { url: `${server.url}/x`, timeoutMs: 20_000, requestTimeoutMs: 5_000, periodMs: 20 };
    const log = new RecordingLog();
    await waitUntilReady(options, log);
    assert.equal(log.lines.at(-1)?.message, 'Envoy is ready!');
  });

  test('makes no attempt without time', async () => {
    const { code, stderr } = await runCommand(['wait', '--timeoutSeconds=0']);
    assert.equal(code, 255);
    assert.match(stderr, /Last error: no attempt was made/);
  });
});
