import assert from 'node:assert/strict';
import { test } from 'node:test';
import { acceptFor } from '../../../agent/status/accept-header.ts';
import { parseMediaType } from '../../../agent/status/media-type.ts';

const text = 'text/plain;version=0.0.4';

// What Prometheus 3 sends.
const prometheus =
  'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2';

interface Row {
  readonly header: string | undefined;
  readonly envoy: string;
  readonly application: string;
  /** Of both peers, or of one. */
  readonly warned?: 'both' | 'envoy';
}

const rows: readonly Row[] = [
  { header: undefined, envoy: text, application: text },
  {
    header: prometheus,
    envoy: 'text/plain; escaping=allow-utf-8; q=0.2; version=1.0.0,text/plain; q=0.1; version=0.0.4',
    application:
      'application/openmetrics-text; escaping=allow-utf-8; q=0.4; version=1.0.0,application/openmetrics-text; q=0.3; version=0.0.1,text/plain; escaping=allow-utf-8; q=0.2; version=1.0.0,text/plain; q=0.1; version=0.0.4',
  },
  {
    header: '*/*',
    envoy: 'text/plain; q=0.1; version=0.0.4',
    application: 'text/plain; q=0.1; version=0.0.4',
  },
  { header: '*', envoy: 'text/plain; q=0.1; version=0.0.4', application: 'text/plain; q=0.1; version=0.0.4' },
  {
    header: 'application/*;q=0.9, text/*;q=0.1',
    envoy: 'text/*; q=0.1',
    application: 'application/openmetrics-text; q=0.2; version=0.0.1,text/*; q=0.1',
  },
  {
    header: 'application/openmetrics-text;version=0.0.1,application/*',
    envoy: text,
    application: 'application/openmetrics-text; q=0.1; version=0.0.1',
    warned: 'envoy',
  },
  {
    header: 'application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited',
    envoy: text,
    application: text,
    warned: 'both',
  },
  { header: 'text/plain,', envoy: text, application: text, warned: 'both' },
  { header: '', envoy: text, application: text, warned: 'both' },
  { header: 'text/plain;version', envoy: text, application: text, warned: 'both' },
  { header: 'text/plain extra', envoy: text, application: text, warned: 'both' },
  {
    header: 'TEXT/Plain; Version="0.0.4"; q=1;',
    envoy: 'text/plain; q=0.1; version=0.0.4',
    application: 'text/plain; q=0.1; version=0.0.4',
  },
  {
    header: 'text/plain;note="a b"',
    envoy: 'text/plain; note="a b"; q=0.1',
    application: 'text/plain; note="a b"; q=0.1',
  },
];

for (const { header, envoy, application, warned } of rows) {
  test(`Accept ${header ?? '(absent)'} is narrowed for each peer`, () => {
    const forEnvoy = acceptFor('envoy', header);
    const forApplication = acceptFor('application', header);
    assert.equal(forEnvoy.accept, envoy);
    assert.equal(forApplication.accept, application);
    assert.equal(forEnvoy.warning !== undefined, warned !== undefined);
    assert.equal(forApplication.warning !== undefined, warned === 'both');
  });
}

test('a wildcard leaves nothing behind for later calls', () => {
  acceptFor('application', 'text/*,*/*,application/*');
  assert.equal(acceptFor('application', '*/*').accept, 'text/plain; q=0.1; version=0.0.4');
  assert.equal(
    acceptFor('application', 'application/*').accept,
    'application/openmetrics-text; q=0.1; version=0.0.1',
  );
});

for (const count of [9, 10, 120, 2000]) {
  test(`the weights of ${count} types fall steadily, below 1, with three digits at most`, () => {
    const { accept } = acceptFor('envoy', Array.from({ length: count }, () => 'text/plain').join(','));
    const weights = accept
      .split(',')
      .map((item) => parseMediaType(item)?.parameters.get('q') ?? assert.fail(`no weight in ${item}`));
    for (const [index, weight] of weights.entries()) {
      assert.match(weight, /^0\.\d{1,3}$/);
      assert.ok(index === 0 || Number(weight) < Number(weights[index - 1]), `${weight} at ${index}`);
    }
    assert.equal(weights.length, Math.min(count, 999));
  });
}

const malformed = [
  '',
  ';a=b',
  'text/',
  '/plain',
  'text/plain/x',
  'te xt/plain',
  'text/plain; =a',
  'text/plain; a=',
  'text/plain; a="b',
  'text/plain; a=b c',
  'text/plain; a=1; A=2',
];

for (const value of malformed) {
  test(`${JSON.stringify(value)} is no media type`, () => {
    assert.equal(parseMediaType(value), undefined);
  });
}

test('quoted parameters, repeated equal ones and a semicolon at the end are read as Go reads them', () => {
  assert.deepEqual(parseMediaType(' Text/Plain ; A="x\\"y" ; a="x\\"y" ; '), {
    type: 'text/plain',
    parameters: new Map([['a', 'x"y']]),
  });
});
