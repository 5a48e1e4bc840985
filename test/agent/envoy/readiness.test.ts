import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { HttpAdminClient } from '../../../agent/envoy/admin.ts';
import { EnvoyReadiness } from '../../../agent/envoy/readiness.ts';
import { freePorts } from '../../support/free-ports.ts';
import { ScriptedServer } from '../../support/scripted-server.ts';

const hasConfig = 'cluster_manager.cds.update_success: 1\nlistener_manager.lds.update_success: 2\n';
const isLive = 'listener_manager.workers_started: 1\nserver.state: 0\n';

/** An Envoy admin whose two stats answers can be changed. */
async function fakeEnvoy(context: TestContext, config: string, life: string) {
  const bodies = { config, life, status: 200 };
  const server = await ScriptedServer.start({
    answer: ({ query }) => ({
      status: bodies.status,
      content: {
        kind: 'bytes',
        bytes: Buffer.from(query.get('filter')?.includes('update_success') ? bodies.config : bodies.life),
      },
    }),
  });
  context.after(() => server.close());
  return {
    bodies,
    server,
    readiness: new EnvoyReadiness({ admin: new HttpAdminClient({ host: '127.0.0.1', port: server.port }) }),
  };
}

const counts = (cds: string, lds: string) => `cds updates: ${cds}; lds updates: ${lds}`;

describe('readiness of Envoy', () => {
  test('is undefined when both checks hold, and asks for exactly the stock stats', async (context) => {
    const { readiness, server } = await fakeEnvoy(context, hasConfig, isLive);
    assert.equal(await readiness.check(), undefined);
    assert.deepEqual(
      server.requests.map(({ path, query }) => [path, query.get('filter'), query.has('usedonly')]),
      [
        [
          '/stats',
          String.raw`^(cluster_manager\.cds|listener_manager\.lds)\.(update_success|update_rejected)$`,
          true,
        ],
        ['/stats', String.raw`^(server\.state|listener_manager\.workers_started)`, true],
      ],
    );
  });

  test('gives the stock reasons', async (context) => {
    const table: readonly (readonly [string, string, string])[] = [
      [
        '',
        isLive,
        `config not received from XDS server (is Istiod running?): ${counts('0 successful, 0 rejected', '0 successful, 0 rejected')}`,
      ],
      [
        'cluster_manager.cds.update_rejected: 2\n',
        isLive,
        `config not received from XDS server (is Istiod running?): ${counts('0 successful, 2 rejected', '0 successful, 0 rejected')}`,
      ],
      [
        'cluster_manager.cds.update_success: 1\nlistener_manager.lds.update_rejected: 3\n',
        isLive,
        `config received from XDS server, but was rejected: ${counts('1 successful, 0 rejected', '0 successful, 3 rejected')}`,
      ],
      [
        'listener_manager.lds.update_success: 1\n',
        isLive,
        `config not fully received from XDS server: ${counts('0 successful, 0 rejected', '1 successful, 0 rejected')}`,
      ],
      [
        hasConfig,
        'listener_manager.workers_started: 1\n',
        'failed to get readiness stats: server.state is not yet updated: listener_manager.workers_started: 1\n',
      ],
      [
        hasConfig,
        'server.state: 0\n',
        'failed to get readiness stats: listener_manager.workers_started is not yet updated: server.state: 0\n',
      ],
      [
        hasConfig,
        'listener_manager.workers_started: 1\nserver.state: 1\n',
        'server is not live, current state is: DRAINING',
      ],
      [
        hasConfig,
        'listener_manager.workers_started: 0\nserver.state: 2\n',
        'server is not live, current state is: PRE_INITIALIZING',
      ],
      [
        hasConfig,
        'listener_manager.workers_started: 0\nserver.state: 3\n',
        'server is not live, current state is: INITIALIZING',
      ],
      [
        hasConfig,
        'listener_manager.workers_started: 0\nserver.state: 9\n',
        'server is not live, current state is: UNKNOWN',
      ],
      [hasConfig, 'listener_manager.workers_started: 0\nserver.state: 0\n', 'workers have not yet started'],
    ];
    for (const [config, life, expected] of table) {
      const { readiness } = await fakeEnvoy(context, config, life);
      assert.equal(await readiness.check(), expected);
    }
  });

  test('stays true for each check that held once', async (context) => {
    const { readiness, bodies, server } = await fakeEnvoy(context, hasConfig, 'server.state: 0\n');
    assert.match((await readiness.check()) ?? '', /workers_started/);
    bodies.config = '';
    bodies.life = isLive;
    assert.equal(await readiness.check(), undefined);
    bodies.life = '';
    const askedCount = server.requests.length;
    assert.equal(await readiness.check(), undefined);
    assert.equal(server.requests.length, askedCount);
  });

  test('fails after termination, also where it held before', async (context) => {
    const { readiness } = await fakeEnvoy(context, hasConfig, isLive);
    assert.equal(await readiness.check(), undefined);
    readiness.terminate('received signal: terminated');
    readiness.terminate('a later cause');
    assert.equal(await readiness.check(), 'server is terminated: received signal: terminated');
  });

  test('names missing configuration before the termination', async (context) => {
    const { readiness } = await fakeEnvoy(context, '', isLive);
    readiness.terminate('x');
    assert.match((await readiness.check()) ?? '', /^config not received/);
  });

  test('says why Envoy could not be asked', async (context) => {
    const [port = 0] = await freePorts(1);
    const admin = new HttpAdminClient({ host: '127.0.0.1', port });
    assert.match((await new EnvoyReadiness({ admin }).check()) ?? '', /ECONNREFUSED/);
    const { readiness, bodies } = await fakeEnvoy(context, hasConfig, '');
    assert.match((await readiness.check()) ?? '', /server\.state/);
    bodies.status = 503;
    assert.match((await readiness.check()) ?? '', /^failed to get readiness stats: .*status 503/);
  });

  test('is looked at once for calls at the same time', async (context) => {
    const { readiness, server } = await fakeEnvoy(context, hasConfig, isLive);
    assert.deepEqual(await Promise.all([readiness.check(), readiness.check()]), [undefined, undefined]);
    assert.equal(server.requests.length, 2);
  });
});
