import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { Authority } from '../support/certificate-authority/authority.ts';

test('an authority issues certificates for names, addresses and URIs that it verifies', () => {
  const authority = Authority.createRoot('Test root');
  const root = new X509Certificate(authority.certificate);
  const uri = 'spiffe://cluster.local/ns/default/sa/gateway';
  const issued = authority.issue(['registry.test', '127.0.0.1', '::1', '2001:db8::7', uri]);
  const leaf = new X509Certificate(issued.certificate);
  assert.equal(root.ca, true);
  assert.equal(leaf.ca, false);
  assert.ok(leaf.verify(root.publicKey));
  assert.ok(leaf.checkIssued(root));
  assert.equal(leaf.checkHost('registry.test'), 'registry.test');
  assert.equal(leaf.checkIP('127.0.0.1'), '127.0.0.1');
  assert.equal(leaf.checkIP('::1'), '::1');
  assert.equal(leaf.checkIP('2001:db8::7'), '2001:db8::7');
  assert.match(leaf.subjectAltName ?? '', new RegExp(`URI:${uri}`));
  assert.equal(leaf.checkHost('other.test'), undefined);
  assert.ok(leaf.validToDate > new Date());
  assert.ok(leaf.validFromDate < new Date());
});

test('a certificate can be expired, and one of another authority does not verify', () => {
  const authority = Authority.createRoot();
  const past = new Date(Date.now() - 60_000);
  const leaf = new X509Certificate(authority.issue(['a.test'], { notAfter: past }).certificate);
  assert.ok(leaf.validToDate < new Date());
  assert.ok(leaf.validFromDate < leaf.validToDate);
  const other = new X509Certificate(Authority.createRoot().certificate);
  assert.equal(leaf.verify(other.publicKey), false);
});
