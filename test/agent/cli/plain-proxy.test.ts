import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readPlainProxy } from '../../../agent/cli/plain-proxy.ts';
import { proxyFlags, rootFlags } from '../../../agent/config/flags.ts';

const defaults = Object.fromEntries(
  [...rootFlags, ...proxyFlags].map((flag) => [
    flag.name,
    flag.type === 'text list' ? [flag.default] : flag.default,
  ]),
);

describe('the command line of a pod', () => {
  const table: readonly (readonly [readonly string[], string | undefined, Record<string, unknown>])[] = [
    [['proxy'], undefined, {}],
    [
      ['proxy', 'sidecar', '--domain=a.svc', '--proxyLogLevel=warning'],
      'sidecar',
      { domain: 'a.svc', proxyLogLevel: 'warning' },
    ],
    [['--log_as_json=t', 'proxy', 'router', 'more'], 'router', { log_as_json: 'true' }],
    [['proxy', '--domain=', '--profiling=0'], undefined, { domain: '', profiling: 'false' }],
    [['proxy', '--domain=a=b\nc', '--domain=d'], undefined, { domain: 'd' }],
    [['proxy', '--log_target=stderr', '--log_target=x'], undefined, { log_target: ['stderr', 'x'] }],
  ];
  for (const [words, type, flags] of table) {
    test(`${JSON.stringify(words)} needs no command library`, () => {
      assert.deepEqual(readPlainProxy(words), { type, flags: { ...defaults, ...flags } });
    });
  }

  const others: readonly (readonly string[])[] = [
    ['wait'],
    ['help', 'proxy'],
    ['proxy', '--help'],
    ['proxy', '-h'],
    ['proxy', '--domain'],
    ['proxy', '--', 'x'],
    ['proxy', '-'],
    ['proxy', '--url=x'],
  ];
  for (const words of others) {
    test(`${JSON.stringify(words)} is left to the library`, () => {
      assert.equal(readPlainProxy(words), undefined);
    });
  }

  test('a boolean that is none is an error', () => {
    assert.throws(() => readPlainProxy(['proxy', '--log_as_json=maybe']), {
      lines: ['invalid argument "maybe" for "--log_as_json": use true or false'],
    });
  });
});
