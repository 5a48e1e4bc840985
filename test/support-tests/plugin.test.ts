import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { buildPlugin } from '../support/plugin-build.ts';
import { PluginHost } from './plugin-host.ts';

const basic = (credentials: string): string => `Basic ${Buffer.from(credentials).toString('base64')}`;
const rule = { prefix: '/productpage', request_methods: ['GET'], credentials: ['ok:test'] };

describe('the basic-auth plugin', () => {
  let path = '';
  before(async () => {
    ({ path } = await buildPlugin());
  });

  const refused: readonly (readonly [string, unknown, RegExp])[] = [
    ['no configuration', '', /not valid JSON: a value is expected at character 1/],
    ['broken JSON', '{"basic_auth_rules": [}', /a value is expected at character 23/],
    ['text after the document', '{} {}', /unexpected text after the document/],
    ['a list', [], /must be a JSON object/],
    ['no rules', {}, /'basic_auth_rules' must be a list with at least one rule/],
    ['an empty list of rules', { basic_auth_rules: [] }, /at least one rule/],
    ['an unknown field', { basic_auth_rules: [rule], relm: 'x' }, /'relm' is not a known field/],
    [
      'an unknown field of a rule',
      { basic_auth_rules: [{ ...rule, prefxi: '/' }] },
      /'basic_auth_rules\[0\]\.prefxi'/,
    ],
    ['a field given twice', '{"realm": "a", "realm": "b"}', /'realm' is given twice/],
    [
      'two paths',
      { basic_auth_rules: [rule, { ...rule, exact: '/x' }] },
      /\[1\] must have exactly one of .* it has 2/,
    ],
    ['no path', { basic_auth_rules: [{ ...rule, prefix: undefined }] }, /exactly one of .* it has 0/],
    [
      'an empty path',
      { basic_auth_rules: [{ ...rule, prefix: '' }] },
      /\[0\]\.prefix must be a non-empty text/,
    ],
    [
      'no methods',
      { basic_auth_rules: [{ ...rule, request_methods: [] }] },
      /\[0\]\.request_methods must be/,
    ],
    [
      'a number as method',
      { basic_auth_rules: [{ ...rule, request_methods: [1] }] },
      /request_methods must be/,
    ],
    [
      'no credentials',
      { basic_auth_rules: [{ ...rule, credentials: [] }] },
      /\[0\]\.credentials must be a list/,
    ],
    [
      'a credential without colon',
      { basic_auth_rules: [{ ...rule, credentials: ['a:b', 'c3Ryb25n'] }] },
      /credentials\[1\]/,
    ],
    ['a realm with a line break', { basic_auth_rules: [rule], realm: 'a\nb' }, /'realm' must be/],
    ['depth without end', '['.repeat(100_000), /nested deeper than 16 levels/],
  ];
  for (const [name, configuration, message] of refused) {
    test(`refuses ${name} and says why`, async () => {
      const host = await PluginHost.load(path);
      assert.equal(host.configure(configuration), undefined);
      assert.equal(host.errors.length, 1);
      assert.match(host.errors[0] ?? '', message);
    });
  }

  test('does not show a credential when it refuses one', async () => {
    const host = await PluginHost.load(path);
    const credentials = ['hunter2-without-colon'];
    assert.equal(host.configure({ basic_auth_rules: [{ ...rule, credentials }] }), undefined);
    assert.doesNotMatch(host.errors.join('\n'), /hunter2/);
  });

  const asked: readonly (readonly [string, object, Record<string, string>, number | undefined])[] = [
    ['asks for credentials under a prefix', rule, { ':path': '/productpage/1' }, 401],
    ['leaves other paths alone', rule, { ':path': '/reviews' }, undefined],
    ['leaves other methods alone', rule, { ':path': '/productpage', ':method': 'POST' }, undefined],
    [
      'takes a plain credential',
      rule,
      { ':path': '/productpage', authorization: basic('ok:test') },
      undefined,
    ],
    ['refuses a wrong password', rule, { ':path': '/productpage', authorization: basic('ok:wrong') }, 401],
    ['refuses another scheme', rule, { ':path': '/productpage', authorization: 'Bearer x' }, 401],
    [
      'takes a credential in base64',
      { ...rule, credentials: ['YWRtaW4zOmFkbWluMw=='] },
      { ':path': '/productpage', authorization: 'Basic YWRtaW4zOmFkbWluMw==' },
      undefined,
    ],
    [
      'takes a credential in base64 without padding',
      { ...rule, credentials: ['YWRtaW4zOmFkbWluMw'] },
      { ':path': '/productpage', authorization: 'Basic YWRtaW4zOmFkbWluMw==' },
      undefined,
    ],
    [
      'takes credentials beyond ASCII',
      { ...rule, credentials: ['zoë:päss€'] },
      { ':path': '/productpage', authorization: basic('zoë:päss€') },
      undefined,
    ],
    [
      'matches an exact path',
      { exact: '/a', request_methods: ['GET'], credentials: ['a:b'] },
      { ':path': '/a' },
      401,
    ],
    [
      'does not take a longer path for an exact one',
      { exact: '/a', request_methods: ['GET'], credentials: ['a:b'] },
      { ':path': '/ab' },
      undefined,
    ],
    [
      'matches a suffix',
      { suffix: '.php', request_methods: ['GET'], credentials: ['a:b'] },
      { ':path': '/x/y.php' },
      401,
    ],
  ];
  for (const [name, oneRule, headers, status] of asked) {
    test(name, async () => {
      const host = await PluginHost.load(path);
      const root = host.configure({ basic_auth_rules: [oneRule], realm: 'a "b"' });
      assert.ok(root !== undefined, host.errors.join('\n'));
      const answer = host.request(root, headers);
      assert.equal(answer?.status, status);
      if (answer !== undefined) {
        assert.equal(answer.headers['WWW-Authenticate'], String.raw`Basic realm="a \"b\""`);
      }
    });
  }

  test('reads escapes of JSON texts', async () => {
    const host = await PluginHost.load(path);
    const text = String.raw`{"basic_auth_rules":[{"exact":"\/a\u00e9\ud83d\ude00\n","request_methods":["GET"],"credentials":["a:b"]}]}`;
    const root = host.configure(text);
    assert.ok(root !== undefined, host.errors.join('\n'));
    assert.equal(host.request(root, { ':path': '/aé😀\n' })?.status, 401);
  });

  test('keeps the rules of two configurations in one VM apart', async () => {
    const host = await PluginHost.load(path);
    const first = host.configure({ basic_auth_rules: [rule], realm: 'one' });
    const second = host.configure({
      basic_auth_rules: [{ ...rule, prefix: '/other', credentials: ['x:y'] }],
      realm: 'two',
    });
    assert.ok(first !== undefined && second !== undefined);
    assert.equal(host.request(first, { ':path': '/other' }), undefined);
    assert.equal(host.request(second, { ':path': '/productpage' }), undefined);
    const answers = [
      host.request(first, { ':path': '/productpage' }),
      host.request(second, { ':path': '/other' }),
    ];
    assert.deepEqual(
      answers.map((answer) => answer?.headers['WWW-Authenticate']),
      ['Basic realm="one"', 'Basic realm="two"'],
    );
    host.delete(first);
    assert.equal(host.request(second, { ':path': '/other' })?.status, 401);
  });

  test('answers 500 rather than let a request pass whose configuration it does not know', async () => {
    const host = await PluginHost.load(path);
    const root = host.configure({ basic_auth_rules: [rule] });
    assert.ok(root !== undefined);
    host.delete(root);
    assert.equal(
      host.request(root, { ':path': '/productpage', authorization: basic('ok:test') })?.status,
      500,
    );
  });

  test('gives the memory of requests and deleted configurations back', async () => {
    const host = await PluginHost.load(path);
    const turn = (): void => {
      const root = host.configure({ basic_auth_rules: [{ ...rule, prefix: `/${'p'.repeat(20_000)}` }] });
      assert.ok(root !== undefined);
      for (let i = 0; i < 50; i += 1) host.request(root, { ':path': `/${'q'.repeat(5_000)}` });
      host.delete(root);
    };
    for (let i = 0; i < 10; i += 1) turn();
    const afterWarmUp = host.memoryBytes;
    for (let i = 0; i < 40; i += 1) turn();
    assert.ok(host.memoryBytes <= 2 * afterWarmUp, `${afterWarmUp} bytes grew to ${host.memoryBytes}`);
  });
});
