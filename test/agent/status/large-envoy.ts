import { once } from 'node:events';
import { request } from 'node:http';
import { type Peer, startPeer } from './status-fixture.ts';

const family = Buffer.from(
  [
    '# TYPE envoy_cluster_upstream_rq counter\n',
    ...Array.from(
      { length: 600 },
      (_, index) =>
        `envoy_cluster_upstream_rq{cluster_name="outbound|80||s${index}.default.svc.cluster.local"} ${index}\n`,
    ),
  ].join(''),
);

/** The metrics listener of an Envoy with a page of as many bytes, at least, as the query asks for. */
export async function startLargeEnvoy(): Promise<Peer> {
  return startPeer(async (incoming, response) => {
    const wantedBytes = Number(new URL(incoming.url ?? '', 'http://x').searchParams.get('bytes'));
    for (let sentBytes = 0; sentBytes < wantedBytes; sentBytes += family.length) {
      if (!response.write(family)) await once(response, 'drain');
    }
    response.end();
  });
}

/** Asks for a page of as many bytes, at least, and throws it away; gives its size on the wire. */
export async function scrapeSize(url: string, bytes: number, encoding: string): Promise<number> {
  const outgoing = request(`${url}?bytes=${bytes}`, {
    agent: false,
    headers: { 'accept-encoding': encoding, 'x-prometheus-scrape-timeout-seconds': '60' },
  }).end();
  const [response] = (await once(outgoing, 'response')) as [AsyncIterable<Buffer>];
  let wireBytes = 0;
  for await (const chunk of response) wireBytes += chunk.length;
  return wireBytes;
}
