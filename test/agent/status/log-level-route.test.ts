import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LogRoot } from '../../../agent/log.ts';
import { logLevelRoute, parseLevelChange } from '../../../agent/status/log-level-route.ts';
import { ask, RecordingLog, startRoutes } from './status-fixture.ts';

describe('a change of log levels', () => {
  test('is read as a whole or not at all', () => {
    assert.deepEqual(parseLevelChange('wasm=debug&default=error'), {
      kind: 'set',
      levels: [
        ['wasm', 'debug'],
        ['default', 'error'],
      ],
    });
    assert.deepEqual(parseLevelChange('reset'), { kind: 'reset' });
    for (const [query, problem] of [
      ['', /nothing is asked for/],
      ['wasm=debug&dns=loud', /no level "loud".*debug, info/],
      ['wasn=debug', /no scope "wasn".*all, ca, cache/],
      ['wasm', /no level ""/],
    ] as const) {
      const change = parseLevelChange(query);
      assert.equal(change.kind, 'bad', query);
      assert.match(change.kind === 'bad' ? change.problem : '', problem);
    }
  });
});

describe('/debug/logging', () => {
  test('lists levels, changes them and takes the changes back', async () => {
    const lines: string[] = [];
    const root = new LogRoot({
      format: 'text',
      levels: new Map([['grpc', 'none']]),
      write: (line) => lines.push(line),
    });
    await using server = await startRoutes([logLevelRoute(root)], new RecordingLog());
    const send = async (method: string, query = '') => {
      const { status, body } = await ask(server.port, `/debug/logging${query}`, { method });
      return [status, body.toString()] as const;
    };
    const [status, list] = await send('GET');
    assert.equal(status, 200);
    assert.match(
      list,
      /^levels in force:\n {2}ca: info\n[\s\S]* {2}grpc: none\n[\s\S]* {2}xdsproxy: info\n$/,
    );
    const log = root.scope('wasm');
    log.debug('unseen');
    assert.match((await send('POST', '?wasm=debug'))[1], / {2}wasm: debug\n/);
    log.debug('seen');
    assert.match((await send('PUT', '?all=none'))[1], / {2}wasm: none\n/);
    log.error('unseen too');
    assert.match((await send('POST', '?reset'))[1], / {2}wasm: info\n/);
    assert.equal(lines.length, 1);
    assert.equal((await send('POST', '?wasm=loud'))[0], 400);
    assert.equal((await send('GET', '?wasm=debug'))[0], 405);
    assert.equal((await send('DELETE'))[0], 405);
    assert.equal(root.levelOf('wasm'), 'info');
  });
});
