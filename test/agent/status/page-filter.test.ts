import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { OpenMetricsFromText } from '../../../agent/status/openmetrics-from-text.ts';
import {
  EndMarkerFilter,
  type PageFilter,
  PassFilter,
  TextMarkerFilter,
} from '../../../agent/status/page-filter.ts';
import { TextFromOpenMetrics } from '../../../agent/status/text-from-openmetrics.ts';
import { WholeLines } from '../../../agent/status/whole-lines.ts';
import { findOpenMetricsFaults } from './openmetrics-grammar.ts';

/** Sends a text through in chunks of the given sizes, used in turn. */
function filtered(filter: PageFilter, text: string, chunkSizes: readonly number[] = [text.length]): string {
  const bytes = Buffer.from(text);
  const lines = new WholeLines();
  let written = '';
  let at = 0;
  for (let turn = 0; at < bytes.length && !filter.isDone; turn += 1) {
    const size = chunkSizes[turn % chunkSizes.length] ?? 1;
    written += filter.push(lines.push(bytes.subarray(at, at + size))).toString();
    at += size;
  }
  if (!filter.isDone) written += filter.push(lines.end()).toString();
  return written + filter.end().toString();
}

const agentAndEnvoy = `\
# HELP istio_agent_scrapes_total The total number of "scrapes".
# TYPE istio_agent_scrapes_total counter
istio_agent_scrapes_total 2
# HELP istio_agent_xds_proxy_requests Requests
# TYPE istio_agent_xds_proxy_requests counter
istio_agent_xds_proxy_requests 6
# HELP alone_total Without a type
alone_total 1

# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{cluster="a # TYPE b} counter"} 5
# TYPE envoy_cluster_upstream_rq_total counter
envoy_cluster_upstream_rq_total{cluster="a"} 7
# TYPE istio_requests_total counter
istio_requests_total{} 3
# just a comment
# TYPE envoy_server_live gauge
envoy_server_live{} 1
# TYPE envoy_time histogram
envoy_time_bucket{le="0.5"} 1
envoy_time_bucket{le="+Inf"} 2
envoy_time_sum{} 3.5
envoy_time_count{} 2
# TYPE odd untyped
odd NaN
# HELP last_total At the end`;

const asOpenMetrics = `\
# HELP istio_agent_scrapes The total number of \\"scrapes\\".
# TYPE istio_agent_scrapes counter
istio_agent_scrapes_total 2
# HELP istio_agent_xds_proxy_requests Requests
# TYPE istio_agent_xds_proxy_requests unknown
istio_agent_xds_proxy_requests 6
# HELP alone_total Without a type
alone_total 1
# TYPE envoy_cluster_upstream_rq unknown
envoy_cluster_upstream_rq{cluster="a # TYPE b} counter"} 5
# TYPE envoy_cluster_upstream_rq_total unknown
envoy_cluster_upstream_rq_total{cluster="a"} 7
# TYPE istio_requests counter
istio_requests_total{} 3
# TYPE envoy_server_live gauge
envoy_server_live{} 1
# TYPE envoy_time histogram
envoy_time_bucket{le="0.5"} 1
envoy_time_bucket{le="+Inf"} 2
envoy_time_sum{} 3.5
envoy_time_count{} 2
# TYPE odd unknown
odd NaN
# HELP last_total At the end
`;

test('text becomes valid OpenMetrics with the same series', () => {
  const converted = filtered(new OpenMetricsFromText(), agentAndEnvoy);
  assert.equal(converted, asOpenMetrics);
  assert.deepEqual(findOpenMetricsFaults(`${converted}# EOF\n`), []);
});

const openMetricsPage = `\
# TYPE requests counter
# UNIT requests seconds
# HELP requests All \\"requests\\".
requests_total{path="/a} # b",text="quote \\" here"} 5 1520879607.789 # {trace_id="a b"} 1 1520879607.789
requests_created{path="/a} # b",text="quote \\" here"} 1520872607.123
# HELP build Of the build.
# TYPE build info
build_info{version="1"} 1
# TYPE feature stateset
feature{feature="a"} 1
# TYPE memory gaugehistogram
memory_bucket{le="+Inf"} 2
memory_gcount 2
memory_gsum 7.5
# TYPE temperature gauge
temperature 21.5 1520879607
# TYPE plain unknown
plain 1
# EOF
`;

const asText = `\
# HELP requests_total All "requests".
# TYPE requests_total counter
requests_total{path="/a} # b",text="quote \\" here"} 5 1520879607789
requests_created{path="/a} # b",text="quote \\" here"} 1520872607.123
# HELP build_info Of the build.
# TYPE build_info gauge
build_info{version="1"} 1
# TYPE feature gauge
feature{feature="a"} 1
# TYPE memory untyped
memory_bucket{le="+Inf"} 2
memory_gcount 2
memory_gsum 7.5
# TYPE temperature gauge
temperature 21.5 1520879607000
# TYPE plain untyped
plain 1
`;

test('OpenMetrics becomes text: no exemplars, units or end marker, times in milliseconds', () => {
  assert.deepEqual(findOpenMetricsFaults(openMetricsPage), []);
  assert.equal(filtered(new TextFromOpenMetrics(), openMetricsPage), asText);
});

test('an end marker in a label value or inside of a line ends nothing', () => {
  const page = 'a{b="# EOF"} 1\nc 2 # EOF\n# EOFX\n';
  assert.equal(filtered(new EndMarkerFilter(), `${page}# EOF\nd 3\n`), page);
  assert.equal(filtered(new TextMarkerFilter(), `${page}# EOF \r\nd 3\n# EOF`), `${page}d 3\n`);
});

test('a part without a line end gets one, and a part that is whole stays byte for byte', () => {
  assert.equal(filtered(new PassFilter(), 'a 1\nb 2'), 'a 1\nb 2\n');
  assert.equal(filtered(new PassFilter(), 'a 1\n\n# EOF\n'), 'a 1\n\n# EOF\n');
  assert.equal(filtered(new PassFilter(), ''), '');
});

test('a line without an end is refused before it fills the memory', () => {
  const lines = new WholeLines();
  const chunk = Buffer.alloc(600 * 1024, 'x');
  lines.push(chunk);
  assert.throws(() => lines.push(chunk), { name: 'ScrapeError', code: 'protocol' });
});

const pages: readonly (readonly [string, () => PageFilter, string])[] = [
  ['PassFilter', () => new PassFilter(), agentAndEnvoy],
  ['OpenMetricsFromText', () => new OpenMetricsFromText(), agentAndEnvoy],
  ['TextFromOpenMetrics', () => new TextFromOpenMetrics(), openMetricsPage],
  ['EndMarkerFilter', () => new EndMarkerFilter(), openMetricsPage],
  ['TextMarkerFilter', () => new TextMarkerFilter(), openMetricsPage],
];

for (const [name, make, page] of pages) {
  test(`${name} writes the same however the bytes are cut into chunks`, () => {
    const whole = filtered(make(), page);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 8 }), (sizes) => {
        assert.equal(filtered(make(), page, sizes), whole);
      }),
      { seed: 15020, numRuns: 60 },
    );
  });
}
