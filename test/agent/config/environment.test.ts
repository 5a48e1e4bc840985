import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ConfigReport } from '../../../agent/config/config-report.ts';
import { type EnvironmentRecord, readEnvironment } from '../../../agent/config/environment.ts';
import { environmentTable, type VariableDefinition } from '../../../agent/config/environment-table.ts';

function read(environment: EnvironmentRecord) {
  const report = new ConfigReport();
  return { values: readEnvironment(environment, report), report };
}

describe('environment variables', () => {
  test('every default of the table parses by its own type', () => {
    const { values, report } = read({});
    assert.deepEqual(report.warnings, []);
    for (const [name, definition] of Object.entries<VariableDefinition>(environmentTable)) {
      const value = values[name as keyof typeof values];
      const mayBeUnset = definition.default === undefined || definition.type === 'file mode';
      assert.ok(mayBeUnset || value !== undefined, `${name} has no value`);
    }
    assert.equal(values.WASM_MODULE_EXPIRY, 86_400_000);
    assert.equal(values.ISTIO_DELTA_XDS, true);
    assert.equal(values.PEER_METADATA_DISCOVERY, undefined);
    assert.equal(values.XDS_SOCKET_MODE, undefined);
  });

  test('values are read by type', () => {
    const { values, report } = read({
      WASM_MODULE_EXPIRY: '90m',
      WASM_HTTP_REQUEST_MAX_RETRIES: '7',
      ISTIO_DELTA_XDS: 'F',
      PEER_METADATA_DISCOVERY: 'false',
      XDS_SOCKET_MODE: '0660',
      SECRET_GRACE_PERIOD_RATIO: '.25',
      PROXY_CONFIG: '',
    });
    assert.deepEqual(report.warnings, []);
    assert.equal(values.WASM_MODULE_EXPIRY, 5_400_000);
    assert.equal(values.WASM_HTTP_REQUEST_MAX_RETRIES, 7);
    assert.equal(values.ISTIO_DELTA_XDS, false);
    assert.equal(values.PEER_METADATA_DISCOVERY, false);
    assert.equal(values.XDS_SOCKET_MODE, 0o660);
    assert.equal(values.SECRET_GRACE_PERIOD_RATIO, 0.25);
    assert.equal(values.PROXY_CONFIG, '');
  });

  test('a value that does not parse is a warning with name and value, and the default', () => {
    const table: readonly (readonly [string, string])[] = [
      ['ISTIO_DELTA_XDS', 'yes'],
      ['ISTIO_CPU_LIMIT', 'two'],
      ['SECRET_GRACE_PERIOD_RATIO', 'half'],
      ['GRPC_KEEPALIVE_INTERVAL', '30'],
      ['XDS_SOCKET_MODE', '999'],
      ['PEER_METADATA_DISCOVERY', 'maybe'],
      ['ISTIO_GPRC_MAXSTREAMS', ''],
    ];
    const defaults = read({}).values;
    for (const [name, text] of table) {
      const { values, report } = read({ [name]: text });
      assert.equal(report.warnings.length, 1, name);
      assert.ok(
        report.warnings[0]?.startsWith(`${name}: ${JSON.stringify(text)} is not `),
        report.warnings[0],
      );
      assert.equal(values[name as 'ISTIO_CPU_LIMIT'], defaults[name as 'ISTIO_CPU_LIMIT']);
    }
  });

  test('the documentation page is what the tables say', async () => {
    const generator = fileURLToPath(new URL('../../../agent/config/generate-docs.ts', import.meta.url));
    await promisify(execFile)(process.execPath, [generator, '--check']);
  });
});
