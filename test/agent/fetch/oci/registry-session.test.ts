import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EgressGuard } from '../../../../agent/fetch/egress-guard.ts';
import { HttpClient } from '../../../../agent/fetch/http-client.ts';
import { InsecureHosts } from '../../../../agent/fetch/insecure-hosts.ts';
import { RegistryClient } from '../../../../agent/fetch/oci/registry.ts';
import type { RegistrySession } from '../../../../agent/fetch/oci/registry-session.ts';
import type { FetchLimits } from '../../../../agent/fetch/retry.ts';
import { noProxies } from '../fetch-fixture.ts';
import { answer, type Handler, startWebServer } from '../web-server.ts';

const digest = 'a'.repeat(64);
const limits: FetchLimits = {
  signal: new AbortController().signal,
  deadlineAtMs: () => Number.POSITIVE_INFINITY,
};

/** A session with a server that says of itself that it is a registry, in clear. */
async function withSession(handle: Handler, use: (session: RegistrySession) => Promise<void>): Promise<void> {
  await using server = await startWebServer(handle);
  const insecureHosts = new InsecureHosts([], () => true);
  const guard = new EgressGuard({ blockedCidrs: [] });
  const client = new HttpClient({ guard, insecureHosts, proxies: noProxies });
  const clock = { nowMs: () => performance.now(), random: () => 0 };
  const registries = new RegistryClient({ client, insecureHosts, clock, firstWaitMs: 1 });
  const reference = { registry: server.host, repository: 'team/plugin', tag: 'v1', digest: undefined };
  const credential = { credential: { kind: 'anonymous' }, origin: 'no docker config was found' } as const;
  try {
    await use(await registries.open(reference, credential, { limits, namespace: 'reg.test' }));
  } finally {
    await client.close();
  }
}

async function pagesOf(session: RegistrySession): Promise<readonly string[]> {
  const pages: string[] = [];
  for await (const page of session.listReferrers(digest, { artifactType: 'a/b+c', limits })) {
    pages.push(Buffer.from(page).toString());
  }
  return pages;
}

describe('the referrers of a manifest', () => {
  it('come page by page, from this registry alone', async () => {
    const seen: string[] = [];
    await withSession(
      (request, response) => {
        seen.push(request.target);
        const link = '<https://elsewhere.test/v2/other/referrers/x?n=2&last=1>; rel="next"';
        const headers: Record<string, string> = seen.length === 1 ? { link } : {};
        answer(response, 200, `page ${seen.length}`, headers);
      },
      async (session) => assert.deepEqual(await pagesOf(session), ['page 1', 'page 2']),
    );
    assert.deepEqual(seen, [
      `/v2/team/plugin/referrers/sha256:${digest}?artifactType=a%2Fb%2Bc&ns=reg.test`,
      `/v2/team/plugin/referrers/sha256:${digest}?n=2&last=1&ns=reg.test`,
    ]);
  });

  it('end after a bounded number of pages, and a registry without them is told by its status', async () => {
    await withSession(
      (_, response) => answer(response, 200, 'page', { link: '</x?n=1>; rel=next' }),
      async (session) => assert.equal((await pagesOf(session)).length, 64),
    );
    await withSession(
      (_, response) => answer(response, 404),
      async (session) => assert.rejects(pagesOf(session), { status: 404, code: 'not_found' }),
    );
  });
});

describe('a claimed digest', () => {
  it('is what the header says, and undefined when it is no SHA-256', async () => {
    for (const [header, expected] of [
      [`sha256:${digest}`, digest],
      ['sha512:00', undefined],
      ['nonsense', undefined],
    ] as const) {
      await withSession(
        (_, response) => answer(response, 200, '', { 'docker-content-digest': header }),
        async (session) => {
          const claimed = await session.claimedDigest('v1', { knownDigest: 'b'.repeat(64), limits });
          assert.equal(claimed, expected);
        },
      );
    }
  });
});
