import { once } from 'node:events';
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
