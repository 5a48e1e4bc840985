import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { runStockCommand, stockAgentPath } from '../../../agent/cli/stock-command.ts';
import { runCommand } from './command-process.ts';

describe('istio-iptables', () => {
  test('passes arguments to the stock binary and its exit code back', (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'ferry-stock-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const stockPath = join(folder, 'pilot-agent.stock');
    writeFileSync(
      stockPath,
      '#!/bin/sh\n[ "$*" = "istio-iptables -p 15001 --run-validation" ] && exit 126\nexit 3\n',
    );
    chmodSync(stockPath, 0o755);
    assert.equal(runStockCommand(['istio-iptables', '-p', '15001', '--run-validation'], { stockPath }), 126);
    assert.equal(runStockCommand(['istio-iptables'], { stockPath }), 3);
  });

  test('says what to do where there is no stock binary', () => {
    assert.throws(
      () => runStockCommand(['istio-iptables'], { stockPath: '/nonexistent/pilot-agent.stock' }),
      /proxy_init\.image/,
    );
  });

  test("is not Ferry's own under either name, wherever its flags stand", {
    skip: existsSync(stockAgentPath) && `${stockAgentPath} is there and would be run`,
  }, async () => {
    for (const name of ['istio-iptables', 'istio-clean-iptables']) {
      for (const words of [[name], ['--log_output_level=default:debug', name, '-p', '15001']]) {
        const { code, stdout, stderr } = await runCommand(words);
        assert.deepEqual([code, stdout], [255, '']);
        assert.match(stderr, /work of the stock agent/);
      }
    }
  });
});
