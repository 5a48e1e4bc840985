import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { describe, it } from 'node:test';
import type { TLSSocket } from 'node:tls';
import type { HostSettings } from '../../../agent/fetch/fetch-settings.ts';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { FetchFixture, type FixtureOptions } from './fetch-fixture.ts';
import { ImageRegistry, ociTarGzip, pullSecret } from './image-registry.ts';
import { pluginLayer, wasmModule } from './module-bytes.ts';
import { answer, startWebServer } from './web-server.ts';

const layer = await pluginLayer(wasmModule('settings'));

function openRegistry(...tags: readonly string[]): ImageRegistry {
  const registry = new ImageRegistry();
  registry.image([{ mediaType: ociTarGzip, bytes: layer }], { tags: ['v1', ...tags] });
  return registry;
}

/** A fixture whose settings say this of every host. */
function open(host: HostSettings, options: FixtureOptions = {}): Promise<FetchFixture> {
  return FetchFixture.open({ ...options, settings: { host: () => host } });
}

class Folder implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async make(): Promise<Folder> {
    return new Folder(await mkdtemp(join(tmpdir(), 'ferry-settings-')));
  }

  async write(name: string, text: string): Promise<string> {
    const path = join(this.path, name);
    await writeFile(path, text);
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true });
  }
}

describe('the authority of a registry', () => {
  it('is trusted for that registry, and its file is read again when it changes', async () => {
    const authority = Authority.createRoot();
    const registry = openRegistry('v2');
    await using server = await startWebServer(registry.handle, authority.issue(['127.0.0.1']));
    await using folder = await Folder.make();
    const caFile = await folder.write('ca.pem', Authority.createRoot('Another authority').certificate);
    await using fixture = await open({ caFile });
    await assert.rejects(fixture.fetch(`oci://${server.host}/p:v1`), { code: 'tls' });
    await folder.write(
      'ca.pem',
      `${Authority.createRoot('Another authority').certificate}${authority.certificate}`,
    );
    assert.equal((await fixture.fetch(`oci://${server.host}/p:v1`)).source, 'oci');
    await folder.write('ca.pem', Authority.createRoot('Another authority').certificate);
    await assert.rejects(fixture.fetch(`oci://${server.host}/p:v2`, { sha256: 'a'.repeat(64) }), {
      code: 'tls',
    });
  });

  it('outweighs the star of WASM_INSECURE_REGISTRIES', async () => {
    const registry = openRegistry();
    const tls = Authority.createRoot().issue(['127.0.0.1']);
    await using server = await startWebServer(registry.handle, tls);
    await using folder = await Folder.make();
    const caFile = await folder.write('ca.pem', Authority.createRoot('Another authority').certificate);
    const config = { insecureRegistries: ['*'] };
    await using fixture = await open({ caFile }, { config });
    await assert.rejects(fixture.fetch(`oci://${server.host}/p:v1`), { code: 'tls' });
    await using star = await FetchFixture.open({ config });
    assert.equal((await star.fetch(`oci://${server.host}/p:v1`)).source, 'oci');
  });

  it('in a file that cannot be used closes the registry, and the file is named', async () => {
    await using folder = await Folder.make();
    const caFile = join(folder.path, 'ca.pem');
    await using fixture = await open({ caFile });
    for (const [text, reason] of [
      [undefined, /it is not there/],
      ['', /it holds no certificate in PEM/],
      ['-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----', /cannot be used/],
      ['x'.repeat(2_000_000), /larger than 1048576 bytes/],
    ] as const) {
      if (text !== undefined) await folder.write('ca.pem', text);
      await assert.rejects(fixture.fetch('oci://reg.test/p:v1'), (error: Error & { code: string }) => {
        assert.equal(error.code, 'tls');
        assert.ok(error.message.includes(`the TLS file ${caFile} for reg.test cannot be used`));
        assert.match(error.message, reason);
        return true;
      });
    }
  });
});

describe('a client certificate', () => {
  it('is shown to its registry, the new one after a change', async () => {
    const authority = Authority.createRoot();
    const registry = openRegistry();
    const shown: string[] = [];
    const pair = authority.issue(['127.0.0.1']);
    await using strict = await startMutual(registry, pair, authority.certificate, shown);
    await using folder = await Folder.make();
    const caFile = await folder.write('ca.pem', authority.certificate);
    const first = authority.issue(['first.test']);
    const clientCertificate = {
      certFile: await folder.write('cert.pem', first.certificate),
      keyFile: await folder.write('key.pem', first.key),
    };
    await using without = await open({ caFile });
    await assert.rejects(without.fetch(`oci://${strict.host}/p:v1`));
    await using fixture = await open({ caFile, clientCertificate });
    assert.equal((await fixture.fetch(`oci://${strict.host}/p:v1`)).source, 'oci');
    const second = authority.issue(['second.test']);
    await folder.write('cert.pem', second.certificate);
    await assert.rejects(fixture.fetch(`oci://${strict.host}/p:v2`), {
      code: 'tls',
      message: /cert\.pem and .*key\.pem for .* cannot be used: .*key values mismatch/,
    });
    await folder.write('key.pem', second.key);
    await assert.rejects(fixture.fetch(`oci://${strict.host}/p:v2`), { code: 'not_found' });
    assert.deepEqual([...new Set(shown)], ['DNS:first.test', 'DNS:second.test']);
  });
});

/** A registry that asks for a client certificate. */
async function startMutual(
  registry: ImageRegistry,
  pair: { readonly key: string; readonly certificate: string },
  ca: string,
  shown: string[],
): Promise<{ readonly host: string } & AsyncDisposable> {
  const server = createServer(
    { key: pair.key, cert: pair.certificate, ca, requestCert: true, rejectUnauthorized: true },
    (message, response) => {
      shown.push(String((message.socket as TLSSocket).getPeerCertificate().subjectaltname));
      const { method = '', url: target = '', headers } = message;
      void registry.handle({ method, target, headers, body: '' }, response);
    },
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' ? address?.port : undefined;
  return {
    host: `127.0.0.1:${port}`,
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

describe('plain http', () => {
  const names = { 'reg.test': ['127.0.0.1'] };

  it('is spoken where the settings say so, without trying TLS, and nowhere else', async () => {
    const registry = openRegistry();
    await using server = await startWebServer(registry.handle);
    const host = `reg.test:${server.port}`;
    await using fixture = await FetchFixture.open({
      names,
      settings: { host: (hostText) => ({ isPlainHttp: hostText === host }) },
    });
    assert.equal((await fixture.fetch(`oci://${host}/p:v1`)).source, 'oci');
    assert.equal(server.count('GET /v2/ '), 0);
    await using other = await FetchFixture.open({
      names,
      settings: { host: () => ({ isPlainHttp: false }) },
    });
    await assert.rejects(other.fetch(`oci://${host}/p:v1`), { code: 'tls' });
  });
});

describe('the agent’s own credentials', () => {
  it('of the settings’ file for a registry go before all others, and follow its changes', async () => {
    const registry = openRegistry();
    registry.auth = { kind: 'basic', username: 'ann', password: 'new' };
    await using server = await startWebServer(registry.handle);
    await using folder = await Folder.make();
    const credentialsFile = await folder.write('config.json', pullSecret(server.host, 'ann', 'old'));
    const inlineConfig = pullSecret(server.host, 'other', 'pw');
    const config = { registryCredentials: { configPaths: [], inlineConfig } };
    await using fixture = await open({ credentialsFile }, { config });
    const url = `oci://${server.host}/p:v1`;
    await assert.rejects(fixture.fetch(url), {
      code: 'unauthorized',
      message: /credentials from the docker config/,
    });
    await folder.write('config.json', pullSecret(server.host, 'ann', 'new'));
    assert.equal((await fixture.fetch(url)).source, 'oci');
    await rm(credentialsFile);
    await assert.rejects(fixture.fetch(url), {
      code: 'bad_pull_secret',
      message: /config\.json is not there/,
    });
  });
});

/** A folder with one credential helper, which notes each run in a file. */
async function makeHelper(folder: Folder, name: string, script: string): Promise<string> {
  const path = await folder.write(
    `docker-credential-${name}`,
    `#!/bin/sh\nprintf . >> ${folder.path}/runs\n${script}\n`,
  );
  await chmod(path, 0o755);
  return [folder.path, process.env['PATH']].join(delimiter);
}

async function runCount(folder: Folder): Promise<number> {
  return (await readFile(join(folder.path, 'runs'), 'utf8').catch(() => '')).length;
}

const printed = (username: string, secret: string): string =>
  `read server; echo "{\\"ServerURL\\":\\"$server\\",\\"Username\\":\\"${username}\\",\\"Secret\\":\\"${secret}\\"}"`;

describe('a credential helper', () => {
  const helperConfig = (document: object): NonNullable<FixtureOptions['config']> => ({
    registryCredentials: { configPaths: [], inlineConfig: JSON.stringify(document) },
  });

  it('is run for its registry, or as the store for all, and not for a module that is in the cache', async () => {
    for (const kind of ['credHelpers', 'credsStore']) {
      const registry = openRegistry();
      registry.auth = { kind: 'basic', username: 'ann', password: 'pw' };
      await using server = await startWebServer(registry.handle);
      await using folder = await Folder.make();
      const helperPath = await makeHelper(folder, 'fixture', printed('ann', 'pw'));
      const document =
        kind === 'credsStore' ? { credsStore: 'fixture' } : { credHelpers: { [server.host]: 'fixture' } };
      await using fixture = await FetchFixture.open({ config: helperConfig(document), helperPath });
      const url = `oci://${server.host}/p:v1`;
      assert.equal((await fixture.fetch(url)).source, 'oci');
      assert.equal((await fixture.fetch(url)).source, 'cache');
      assert.equal(await runCount(folder), 1);
      await assert.rejects(fixture.fetch(url, { pullSecret: '{}' }), { code: 'unauthorized' });
      assert.equal(await runCount(folder), 1);
    }
  });

  it('that gives an identity token is answered with a refresh', async () => {
    const registry = openRegistry();
    registry.auth = { kind: 'bearer', users: new Map([['ann', 'token-1']]) };
    await using server = await startWebServer(registry.handle);
    await using folder = await Folder.make();
    const helperPath = await makeHelper(folder, 'fixture', printed('<token>', 'token-1'));
    await using fixture = await FetchFixture.open({
      config: helperConfig({ credsStore: 'fixture' }),
      helperPath,
    });
    assert.equal((await fixture.fetch(`oci://${server.host}/p:v1`)).source, 'oci');
    assert.equal(server.count('POST /token'), 1);
  });

  it('that has nothing leaves the request anonymous', async () => {
    const registry = openRegistry();
    registry.auth = { kind: 'basic', username: 'ann', password: 'pw' };
    await using server = await startWebServer(registry.handle);
    await using folder = await Folder.make();
    const helperPath = await makeHelper(
      folder,
      'fixture',
      'echo credentials not found in native keychain; exit 1',
    );
    await using fixture = await FetchFixture.open({
      config: helperConfig({ credsStore: 'fixture' }),
      helperPath,
    });
    await assert.rejects(fixture.fetch(`oci://${server.host}/p:v1`), {
      code: 'unauthorized',
      message: /asks for a user and password, but docker-credential-fixture of DOCKER_AUTH_CONFIG/,
    });
  });

  it('in a pull secret is never run', async () => {
    const registry = openRegistry();
    registry.auth = { kind: 'basic', username: 'ann', password: 'pw' };
    await using server = await startWebServer(registry.handle);
    await using folder = await Folder.make();
    const helperPath = await makeHelper(folder, 'fixture', printed('ann', 'pw'));
    await using fixture = await FetchFixture.open({ helperPath });
    for (const document of [{ credsStore: 'fixture' }, { credHelpers: { [server.host]: 'fixture' } }]) {
      const request = { pullSecret: JSON.stringify(document) };
      await assert.rejects(fixture.fetch(`oci://${server.host}/p:v1`, request), {
        code: 'unauthorized',
        message: /credential helpers are not run/,
      });
    }
    assert.equal(await runCount(folder), 0);
  });

  const bad: readonly (readonly [string, string, string, RegExp])[] = [
    ['fails', 'fixture', 'echo hunter2; echo hunter2 >&2; exit 3', /get for 127.* failed with exit code 3/],
    ['prints no JSON', 'fixture', 'echo hunter2', /printed something that is not JSON/],
    [
      'prints no secret',
      'fixture',
      'echo "{\\"Username\\":\\"hunter2\\"}"',
      /printed no "Username" and "Secret"/,
    ],
    [
      'prints without end',
      'fixture',
      'while :; do echo hunter2hunter2hunter2; done',
      /printed more than 65536 bytes/,
    ],
    ['is not there', 'absent', '', /there is no such program in PATH/],
    ['has a path for a name', '../fixture', '', /is no plain name/],
    ['has an option for a name', '-x', '', /is no plain name/],
  ];
  for (const [what, name, script, reason] of bad) {
    it(`that ${what} is told by name, not by what it printed`, async () => {
      const registry = openRegistry();
      registry.auth = { kind: 'basic', username: 'ann', password: 'pw' };
      await using server = await startWebServer(registry.handle);
      await using folder = await Folder.make();
      const helperPath = await makeHelper(folder, 'fixture', script);
      await using fixture = await FetchFixture.open({
        config: helperConfig({ credsStore: name }),
        helperPath,
      });
      await assert.rejects(fixture.fetch(`oci://${server.host}/p:v1`), (error: Error & { code: string }) => {
        assert.equal(error.code, 'unauthorized');
        assert.match(error.message, reason);
        assert.doesNotMatch(error.message, /hunter2/);
        return true;
      });
    });
  }
});

describe('tokens', () => {
  it('are used for the next requests of the same credential, and got anew when they are refused', async () => {
    const registry = openRegistry('v2', 'v3');
    registry.image([{ mediaType: ociTarGzip, bytes: await pluginLayer(wasmModule('two')) }], {
      tags: ['v2'],
    });
    registry.image([{ mediaType: ociTarGzip, bytes: await pluginLayer(wasmModule('three')) }], {
      tags: ['v3'],
    });
    registry.auth = {
      kind: 'bearer',
      users: new Map([
        ['ann', 'pw'],
        ['bob', 'pw'],
      ]),
    };
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const ann = { pullSecret: pullSecret(server.host, 'ann', 'pw') };
    await fixture.fetch(`oci://${server.host}/p:v1`, ann);
    await fixture.fetch(`oci://${server.host}/p:v2`, ann);
    assert.equal(server.count('GET /token'), 1);
    await fixture.fetch(`oci://${server.host}/p:v1`, { pullSecret: pullSecret(server.host, 'bob', 'pw') });
    assert.equal(server.count('GET /token'), 2, 'another credential has another token');
    registry.fail(
      'GET /v2/p/manifests/v3',
      (_, response) => {
        answer(response, 401, '', { 'www-authenticate': `Bearer realm="${server.url}/token"` });
        return true;
      },
      1,
    );
    await fixture.fetch(`oci://${server.host}/p:v3`, ann);
    assert.equal(server.count('GET /token'), 3);
  });

  it('are asked for with GET where the token server knows no refresh', async () => {
    const registry = openRegistry();
    registry.auth = { kind: 'bearer', users: new Map([['ann', 'secret-1']]), isPostKnown: false };
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    const auth = Buffer.from('ann:').toString('base64');
    const secret = JSON.stringify({ auths: { [server.host]: { auth, identitytoken: 'secret-1' } } });
    assert.equal((await fixture.fetch(`oci://${server.host}/p:v1`, { pullSecret: secret })).source, 'oci');
    assert.deepEqual([server.count('POST /token'), server.count('GET /token')], [1, 1]);
  });
});

describe('a registry that hides what nobody may see', () => {
  it('is asked for its challenge when a credential is there', async () => {
    const registry = openRegistry();
    registry.auth = { kind: 'basic', username: 'ann', password: 'pw' };
    for (const method of ['GET', 'HEAD']) {
      registry.fail(`${method} /v2/p/`, (request, response) => {
        if (request.headers.authorization !== undefined) return false;
        answer(response, 404);
        return true;
      });
    }
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open({ settings: { host: () => ({ isPlainHttp: true }) } });
    const request = { pullSecret: pullSecret(server.host, 'ann', 'pw') };
    assert.equal((await fixture.fetch(`oci://${server.host}/p:v1`, request)).source, 'oci');
    await assert.rejects(fixture.fetch(`oci://${server.host}/p:v1`), { code: 'not_found' });
  });
});

describe('a registry that says 429', () => {
  it('is left alone for as long as it says, and is not asked by fetches that cannot wait so long', async () => {
    const registry = openRegistry();
    registry.fail('GET /v2/', (_, response) => {
      answer(response, 429, '', { 'retry-after': '3600' });
      return true;
    });
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open({ settings: { host: () => ({ isPlainHttp: true }) } });
    for (const repository of ['a', 'b']) {
      await assert.rejects(fixture.fetch(`oci://${server.host}/${repository}:v1`), {
        code: 'http_status',
        retryAfterMs: 3_600_000,
      });
    }
    const requestCount = server.requests.length;
    assert.equal(requestCount, 2);
    await assert.rejects(fixture.fetch(`oci://${server.host}/c:v1`), {
      code: 'http_status',
      result: 'manifest_failure',
      message: /c: not asked, the registry has answered with status code 429 .* left alone for another 600 s/,
    });
    assert.equal(server.requests.length, requestCount);
  });

  it('holds up its limited repository only', async () => {
    const registry = openRegistry();
    registry.fail('GET /v2/limited/', (_, response) => {
      answer(response, 429, '', { 'retry-after': '3600' });
      return true;
    });
    await using server = await startWebServer(registry.handle);
    await using fixture = await FetchFixture.open();
    await assert.rejects(fixture.fetch(`oci://${server.host}/limited:v1`), { retryAfterMs: 3_600_000 });
    await assert.rejects(fixture.fetch(`oci://${server.host}/limited:v1`), /not asked/);
    assert.equal(server.count('GET /v2/limited/'), 1);
    assert.equal((await fixture.fetch(`oci://${server.host}/p:v1`)).source, 'oci');
  });

  it('as a web server is left alone too', async () => {
    await using server = await startWebServer((_, response) =>
      answer(response, 429, '', { 'retry-after': '3600' }),
    );
    await using fixture = await FetchFixture.open();
    for (const path of ['a', 'b', 'c', 'a']) {
      await assert.rejects(fixture.fetch(`${server.url}/${path}`), { code: 'http_status' });
    }
    assert.equal(server.requests.length, 2);
  });
});

describe('connections to one host', () => {
  for (const [setting, expected] of [
    [2, 2],
    [undefined, 8],
  ] as const) {
    it(`are ${expected} where the settings say ${setting}, and others wait`, async () => {
      const reached = Promise.withResolvers<void>();
      const gate = Promise.withResolvers<void>();
      let openCount = 0;
      let maxOpenCount = 0;
      await using server = await startWebServer(async (request, response) => {
        if (request.target === '/probe') return answer(response, 200, '');
        openCount += 1;
        maxOpenCount = Math.max(maxOpenCount, openCount);
        if (openCount === expected) reached.resolve();
        await gate.promise;
        openCount -= 1;
        answer(response, 200, wasmModule(request.target));
      });
      await using fixture = await FetchFixture.open({ settings: { connectionsPerHost: () => setting } });
      const fetchCount = 3 * expected;
      const fetching = Array.from({ length: fetchCount }, (_, at) => fixture.fetch(`${server.url}/${at}`));
      await reached.promise;
      // Whatever else had been dialled would have come before this connection.
      await (await fetch(`${server.url}/probe`)).arrayBuffer();
      gate.resolve();
      await Promise.all(fetching);
      assert.equal(server.requests.length, fetchCount + 1);
      assert.equal(maxOpenCount, expected);
    });
  }
});

describe('the cap of the settings', () => {
  it('lowers that of the environment and never raises it', async () => {
    const module = wasmModule('x'.repeat(1_000));
    await using server = await startWebServer((_, response) => answer(response, 200, module));
    for (const [cap, code] of [
      [100, 'too_large'],
      [10_000_000, undefined],
    ] as const) {
      await using fixture = await FetchFixture.open({ settings: { maxModuleBytes: () => cap } });
      const outcome = await fixture.fetch(server.url).then(
        () => undefined,
        (error: { code: string }) => error.code,
      );
      assert.equal(outcome, code);
    }
    await using tight = await FetchFixture.open({
      config: { maxModuleBytes: 100 },
      settings: { maxModuleBytes: () => 10_000_000 },
    });
    await assert.rejects(tight.fetch(server.url), { code: 'too_large' });
  });
});
