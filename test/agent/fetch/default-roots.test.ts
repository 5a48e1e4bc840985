import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { wasmModule } from './module-bytes.ts';
import { startWebServer } from './web-server.ts';

const program = fileURLToPath(new URL('default-roots-process.ts', import.meta.url));
const own = Authority.createRoot('Own authority');
const other = Authority.createRoot('Other authority');

describe('TLS to an origin without a CA file of its own', () => {
  const table: readonly (readonly [string, Readonly<Record<string, string>>, string])[] = [
    ['trusts the roots of the system', { SSL_CERT_FILE: 'own.pem' }, 'fetched'],
    ['trusts nobody else', { SSL_CERT_FILE: 'other.pem' }, 'tls'],
    [
      'trusts NODE_EXTRA_CA_CERTS too',
      { SSL_CERT_FILE: 'other.pem', NODE_EXTRA_CA_CERTS: 'own.pem' },
      'fetched',
    ],
    ['trusts nobody by a system without roots', { SSL_CERT_FILE: 'none.pem' }, 'tls'],
  ];
  // As the image starts Node, and as a developer does.
  for (const flags of [['--use-openssl-ca'], []]) {
    for (const [name, files, result] of table) {
      test([name, ...flags].join(', with '), async () => {
        const folder = await mkdtemp(join(tmpdir(), 'ferry-roots-'));
        await using server = await startWebServer(
          (_, response) => {
            response.end(wasmModule());
          },
          own.issue(['127.0.0.1']),
        );
        try {
          await writeFile(join(folder, 'own.pem'), own.certificate);
          await writeFile(join(folder, 'other.pem'), other.certificate);
          const { stdout } = await promisify(execFile)(
            process.execPath,
            [...flags, program, `https://${server.host}/m.wasm`],
            {
              cwd: folder,
              env: { PATH: process.env['PATH'], SSL_CERT_DIR: join(folder, 'no-folder'), ...files },
              timeout: 60_000,
            },
          );
          assert.equal(stdout, result);
        } finally {
          await rm(folder, { recursive: true });
        }
      });
    }
  }
});
