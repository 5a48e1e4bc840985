import assert from 'node:assert/strict';
import test from 'node:test';
import { presentUrl } from '../../../agent/wasm/plugin-status.ts';

test('a URL is shown without what may be secret, also where its password holds a slash', () => {
  assert.equal(presentUrl('oci://user:pa/ss@reg.test/x:1'), 'oci://reg.test/x:1');
  assert.equal(presentUrl('https://user:pass@reg.test/x?token=1#f'), 'https://reg.test/x');
  assert.equal(presentUrl('user:pass@reg.test'), '(not a URL)');
});
