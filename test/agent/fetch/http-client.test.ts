import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import { describe, it } from 'node:test';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { readBounded } from '../../../agent/fetch/bounded-body.ts';
import { trustSystemRoots } from '../../../agent/fetch/default-roots.ts';
import { EgressGuard } from '../../../agent/fetch/egress-guard.ts';
import { HttpClient, type HttpRequest, type HttpResponse } from '../../../agent/fetch/http-client.ts';
import { InsecureHosts } from '../../../agent/fetch/insecure-hosts.ts';
import type { OutboundProxy } from '../../../agent/fetch/proxy-choice.ts';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { namesLookup, noProxies } from './fetch-fixture.ts';
import { answer, startWebServer, type WebServer } from './web-server.ts';

interface ClientOptions {
  readonly names?: Readonly<Record<string, readonly string[]>>;
  readonly blockedCidrs?: readonly string[];
  readonly insecure?: readonly string[];
  readonly proxies?: Partial<OutboundProxy>;
}

function openClient(options: ClientOptions = {}): HttpClient & AsyncDisposable {
  const client = new HttpClient({
    guard: new EgressGuard({
      blockedCidrs: options.blockedCidrs ?? [],
      lookup: namesLookup(options.names ?? {}),
    }),
    insecureHosts: new InsecureHosts(options.insecure ?? []),
    proxies: { ...noProxies, ...options.proxies },
  });
  return Object.assign(client, { [Symbol.asyncDispose]: async () => client.close() });
}

async function get(client: HttpClient, url: string, more: Partial<HttpRequest> = {}): Promise<HttpResponse> {
  const redirects = { isInternalLiteralRefused: false, isPlainHttpAllowed: () => false };
  return client.send(
    { url, method: 'GET', headers: {}, redirects, ...more },
    { signal: new AbortController().signal },
  );
}

async function textOf(response: HttpResponse): Promise<string> {
  return (await readBounded(response.body, { maxSizeBytes: 1000, what: 'the answer' })).toString();
}

/** A proxy that tunnels everything to one server, and answers for plain http targets itself. */
async function startProxy(
  target: () => WebServer,
): Promise<WebServer & { readonly tunnels: IncomingMessage[] }> {
  const tunnels: IncomingMessage[] = [];
  const sockets = new Set<Socket>();
  const proxy = await startWebServer((_, response) => answer(response, 200, 'from the proxy'));
  proxy.server.on('connect', (request: IncomingMessage, socket: Socket) => {
    tunnels.push(request);
    const upstream = connect(target().port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      upstream.pipe(socket).pipe(upstream);
    });
    for (const each of [socket, upstream]) {
      sockets.add(each);
      each.on('error', () => undefined);
    }
  });
  const close = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy();
    await proxy.close();
  };
  return { ...proxy, tunnels, close, [Symbol.asyncDispose]: close };
}

describe('the http client', () => {
  it('verifies certificates against the trusted authorities and the name', async () => {
    const authority = Authority.createRoot();
    const tls = authority.issue(['good.test']);
    await using server = await startWebServer((_, response) => answer(response, 200, 'hello'), tls);
    const names = { 'good.test': ['127.0.0.1'], 'bad.test': ['127.0.0.1'] };
    // Before the test's authority comes in, not with the first connection.
    trustSystemRoots();
    const trusted = getCACertificates('default');
    setDefaultCACertificates([...trusted, authority.certificate]);
    try {
      await using client = openClient({ names });
      assert.equal(await textOf(await get(client, `https://good.test:${server.port}/`)), 'hello');
      await assert.rejects(get(client, `https://bad.test:${server.port}/`), {
        code: 'tls',
        message: /altnames|does not match/,
      });
    } finally {
      setDefaultCACertificates(trusted);
    }
    await using client = openClient({ names });
    await assert.rejects(get(client, `https://good.test:${server.port}/`), { code: 'tls' });
  });

  it('leaves certificates unverified for listed hosts only, on each hop anew', async () => {
    const tls = Authority.createRoot().issue(['127.0.0.1']);
    await using second = await startWebServer((_, response) => answer(response, 200, 'second'), tls);
    await using first = await startWebServer(
      (_, response) => answer(response, 302, '', { location: second.url }),
      tls,
    );
    await using strict = openClient({ insecure: [first.host] });
    await assert.rejects(get(strict, first.url), { code: 'tls' });
    await using both = openClient({ insecure: [first.host, second.host] });
    assert.equal(await textOf(await get(both, first.url)), 'second');
  });

  it('drops credentials for good once a redirect has left the origin', async () => {
    await using home = await startWebServer((request, response) => {
      if (request.target === '/out') answer(response, 302, '', { location: `${away.url}/` });
      else answer(response, 200, 'home');
    });
    await using away = await startWebServer((_, response) =>
      answer(response, 302, '', { location: `${home.url}/back` }),
    );
    await using client = openClient();
    assert.equal(await textOf(await get(client, `${home.url}/out`, { authorization: 'Basic x' })), 'home');
    assert.deepEqual(
      home.requests.map((request) => request.headers.authorization),
      ['Basic x', undefined],
    );
    assert.deepEqual(
      away.requests.map((request) => request.headers.authorization),
      [undefined],
    );
  });

  it('never sends a body on to where a redirect leads', async () => {
    await using server = await startWebServer((_, response) =>
      answer(response, 307, '', { location: '/other' }),
    );
    await using client = openClient();
    const response = await get(client, server.url, { method: 'POST', body: 'secret' });
    assert.equal(response.status, 307);
    await response.discard();
    assert.equal(server.requests.length, 1);
  });

  it('asks for no content coding and says who it is', async () => {
    await using server = await startWebServer((_, response) => answer(response, 200));
    await using client = openClient();
    await (await get(client, server.url, { headers: { accept: 'a/b' } })).discard();
    const { headers } = server.requests[0] ?? {};
    assert.deepEqual(
      [headers?.['accept-encoding'], headers?.accept, headers?.['user-agent']],
      ['identity', 'a/b', 'ferry-agent'],
    );
  });

  it('checks literal addresses of every spelling', async () => {
    await using client = openClient({ blockedCidrs: ['127.0.0.0/8', '::1/128'] });
    for (const host of [
      '127.0.0.1',
      '2130706433',
      '0x7f.1',
      '[::1]',
      '[::ffff:127.0.0.1]',
      '169.254.169.254.',
    ]) {
      await assert.rejects(get(client, `http://${host}:9/`), { code: 'blocked_address' }, host);
    }
  });

  it('tells names that do not exist and ports that are closed as network failures', async () => {
    const server = await startWebServer(() => undefined);
    await server.close();
    await using client = openClient();
    await assert.rejects(get(client, 'http://unknown.test/?secret'), (error: Error & { code: string }) => {
      assert.deepEqual(
        [error.code, error.message],
        ['network', 'GET http://unknown.test/: getaddrinfo ENOTFOUND unknown.test'],
      );
      return true;
    });
    await assert.rejects(get(client, server.url), { code: 'network', message: /ECONNREFUSED/ });
  });

  it('sends https through a tunnel and http as a whole URL, with the credentials of the proxy', async () => {
    const tls = Authority.createRoot().issue(['a.test']);
    await using target = await startWebServer((_, response) => answer(response, 200, 'through'), tls);
    await using proxy = await startProxy(() => target);
    const url = `http://user:p%40ss@${proxy.host}`;
    await using client = openClient({
      insecure: ['a.test:8443'],
      proxies: { http: url, https: url, noProxy: 'direct.test' },
    });
    const expected = `Basic ${Buffer.from('user:p@ss').toString('base64')}`;

    assert.equal(
      await textOf(await get(client, 'https://a.test:8443/x', { authorization: 'Bearer t' })),
      'through',
    );
    assert.equal(proxy.tunnels[0]?.url, 'a.test:8443');
    assert.equal(proxy.tunnels[0]?.headers['proxy-authorization'], expected);
    assert.equal(proxy.tunnels[0]?.headers.authorization, undefined);
    assert.equal(target.requests[0]?.headers.authorization, 'Bearer t');

    assert.equal(await textOf(await get(client, 'http://a.test:8080/x?y')), 'from the proxy');
    assert.equal(proxy.requests[0]?.target, 'http://a.test:8080/x?y');
    assert.equal(proxy.requests[0]?.headers.host, 'a.test:8080');
    assert.equal(proxy.requests[0]?.headers['proxy-authorization'], expected);

    await assert.rejects(get(client, 'http://direct.test/'), {
      code: 'network',
      message: /ENOTFOUND direct\.test/,
    });
  });

  it('verifies the certificate of the target behind a proxy', async () => {
    const tls = Authority.createRoot().issue(['a.test']);
    await using target = await startWebServer((_, response) => answer(response, 200), tls);
    await using proxy = await startProxy(() => target);
    await using client = openClient({ proxies: { https: proxy.url } });
    await assert.rejects(get(client, 'https://a.test/'), { code: 'tls' });
  });

  it('checks the address of the proxy, and the target that the proxy would dial', async () => {
    await using proxy = await startProxy(() => proxy);
    await using blockedProxy = openClient({
      blockedCidrs: ['127.0.0.0/8'],
      proxies: { http: proxy.url, https: proxy.url },
    });
    const names = { 'meta.test': ['169.254.169.254', '8.8.8.8'] };
    await using client = openClient({ names, proxies: { http: proxy.url, https: proxy.url } });
    for (const scheme of ['http', 'https']) {
      await assert.rejects(get(blockedProxy, `${scheme}://a.test/`), {
        code: 'blocked_address',
        message: /127\.0\.0\.1 is in blocked CIDR/,
      });
      await assert.rejects(get(client, `${scheme}://169.254.169.254/`), { code: 'blocked_address' });
      await assert.rejects(get(client, `${scheme}://meta.test/`), { code: 'blocked_address' });
    }
    assert.equal(proxy.requests.length + proxy.tunnels.length, 0);
  });

  it('ends a request and its body when the caller leaves, with no unhandled error', async () => {
    const gone = Promise.withResolvers<void>();
    await using server = await startWebServer((_, response) => {
      response.on('close', gone.resolve);
      response.writeHead(200).write('begin');
    });
    await using client = openClient();
    const stop = new AbortController();
    const redirects = { isInternalLiteralRefused: false, isPlainHttpAllowed: () => false };
    const response = await client.send(
      { url: server.url, method: 'GET', headers: {}, redirects },
      { signal: stop.signal },
    );
    stop.abort();
    await gone.promise;
    await assert.rejects(textOf(response), { code: 'aborted' });
    await assert.rejects(
      client.send({ url: server.url, method: 'GET', headers: {}, redirects }, { signal: stop.signal }),
      { code: 'aborted' },
    );
    assert.equal(server.requests.length, 1);
  });

  it('after close sends nothing', async () => {
    await using server = await startWebServer((_, response) => answer(response, 200));
    const client = openClient();
    await (await get(client, server.url)).discard();
    await client.close();
    await assert.rejects(get(client, server.url), { code: 'aborted' });
    assert.equal(server.requests.length, 1);
  });
});
