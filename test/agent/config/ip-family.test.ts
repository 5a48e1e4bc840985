import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { ipFamily } from '../../../agent/config/ip-family.ts';

describe('the family of an address is what Node says', () => {
  const names = ['', 'istiod.istio-system.svc', 'localhost', '[::1]', ':', 'a:b', 'g::1'];
  const v4 = ['10.0.0.1', '010.0.0.1', '10.0.0', '256.0.0.1', '1.2.3.4:80', ' 10.0.0.1', '::ffff:10.0.0'];
  const v6 = ['::', '::1', 'fe80::1', 'fe80::1%eth0', '::ffff:10.0.0.1', '1::2::3', '1:2:3:4:5:6:7:8'];
  const odd = ['1:2:3:4:5:6:7:8:9', '1:2:3:4:5:6:7', '12345::', '::1 ', ' ::1', '::1\0'];
  const texts = [...names, ...v4, ...v6, ...odd];
  for (const text of texts) {
    test(JSON.stringify(text), () => {
      assert.equal(ipFamily(text), isIP(text));
    });
  }

  test('for any text', () => {
    const word = fc.constantFrom(':', '::', '.', '0', '1', '255', 'ffff', 'fe80', 'g', '%', ' ', '-');
    const text = fc.oneof(
      fc.ipV4(),
      fc.ipV6(),
      fc.array(word, { maxLength: 12 }).map((words) => words.join('')),
    );
    fc.assert(
      fc.property(text, (address) => assert.equal(ipFamily(address), isIP(address))),
      { numRuns: 2000 },
    );
  });
});
