import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { envoyEnvironment } from '../../../agent/envoy/environment.ts';
import {
  describeArguments,
  describeExit,
  EnvoyProcess,
  EnvoyProcessError,
} from '../../../agent/envoy/process.ts';
import { createWorkspace } from '../../support/workspace.ts';

const launch = (script: string, workingFolder: string) => ({
  binaryPath: process.execPath,
  arguments: ['-e', script, 'an argument'],
  extraEnvironment: {},
  workingFolder,
  runAs: undefined,
});

const hangs = 'setInterval(() => {}, 1000)';
function killIfAlive(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It is gone, as it should be.
  }
}

const processModule = fileURLToPath(new URL('../../../agent/envoy/process.ts', import.meta.url));

describe('the process of Envoy', () => {
  test('its arguments are shown without the content of the override', () => {
    const given = ['-c', 'envoy.json', '--config-yaml', '{"token":"hünter2"}', '--concurrency', '2'];
    assert.equal(describeArguments(given), '[-c envoy.json --config-yaml <20 bytes> --concurrency 2]');
    assert.equal(describeArguments([]), '[]');
  });

  test('tells its exit code', async () => {
    await using workspace = await createWorkspace();
    const envoy = await EnvoyProcess.start(launch('process.exit(3)', workspace.root), process.env);
    assert.deepEqual(await envoy.exited, { kind: 'exited', code: 3 });
    envoy.kill();
    await envoy.close();
  });

  test('runs in its working folder with its arguments and the cleaned environment', async () => {
    await using workspace = await createWorkspace();
    const script =
      'require("fs").writeFileSync("seen.json", JSON.stringify([process.cwd(), process.argv.slice(1), process.env]))';
    const envoy = await EnvoyProcess.start(
      { ...launch(script, workspace.root), extraEnvironment: { EXTRA: 'yes' } },
      { POD_NAME: 'web-0', DOCKER_AUTH_CONFIG: 'hunter2', XDS_HEADER_AUTHORIZATION: 'hunter2' },
    );
    assert.deepEqual(await envoy.exited, { kind: 'exited', code: 0 });
    assert.deepEqual(JSON.parse(await readFile(workspace.path('seen.json'), 'utf8')), [
      workspace.root,
      ['an argument'],
      { POD_NAME: 'web-0', EXTRA: 'yes' },
    ]);
  });

  test('is ended by SIGKILL, which an ignored SIGTERM cannot stop', async () => {
    await using workspace = await createWorkspace();
    const script = `process.on("SIGTERM", () => {}); ${hangs}`;
    const envoy = await EnvoyProcess.start(launch(script, workspace.root), process.env);
    await envoy.close();
    assert.deepEqual(await envoy.exited, { kind: 'killed', signal: 'SIGKILL', isByAgent: true });
  });

  test('tells when somebody else killed it', async () => {
    await using workspace = await createWorkspace();
    const envoy = await EnvoyProcess.start(launch(hangs, workspace.root), process.env);
    process.kill(envoy.pid, 'SIGKILL');
    const exit = await envoy.exited;
    assert.deepEqual(exit, { kind: 'killed', signal: 'SIGKILL', isByAgent: false });
    assert.match(describeExit(exit).text, /signal: killed\. .*memory/);
  });

  test('says why it cannot be started', async () => {
    await using workspace = await createWorkspace();
    const file = await workspace.write('not-executable', '');
    const start = (binaryPath: string) =>
      EnvoyProcess.start({ ...launch('', workspace.root), binaryPath }, {});
    await assert.rejects(start('/nowhere/envoy'), (error: unknown) => {
      assert.ok(error instanceof EnvoyProcessError);
      assert.equal(error.code, 'not_found');
      assert.match(error.message, /\/nowhere\/envoy.*binaryPath/);
      return true;
    });
    await assert.rejects(start(file), (error: unknown) => {
      assert.ok(error instanceof EnvoyProcessError);
      assert.equal(error.code, 'not_executable');
      return true;
    });
  });

  for (const [name, end] of [
    ['exits', 'process.exit(0)'],
    ['throws', 'setTimeout(() => { throw new Error("a bug") })'],
  ] as const) {
    test(`goes with an agent that ${name}`, async () => {
      await using workspace = await createWorkspace();
      const script =
        `import { EnvoyProcess } from ${JSON.stringify(processModule)};` +
        `const envoy = await EnvoyProcess.start(${JSON.stringify(launch(hangs, workspace.root))}, {});` +
        `console.log("envoy " + envoy.pid); ${end};`;
      const agent = spawn(process.execPath, ['--input-type=module', '-e', script], {
        cwd: workspace.root,
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      let output = '';
      agent.stdout.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
      try {
        // The end of the output, which Envoy has inherited: it comes only when both are gone.
        await once(agent, 'close', { signal: AbortSignal.timeout(10_000) });
        assert.match(output, /^envoy \d+\n$/);
      } finally {
        const pid = Number(/envoy (\d+)/.exec(output)?.[1] ?? 0);
        if (pid > 0) killIfAlive(pid);
        agent.kill('SIGKILL');
      }
    });
  }
});

describe('the environment of Envoy', () => {
  test('is the agent’s without its credentials', () => {
    const given = {
      PATH: '/bin',
      ISTIO_META_MESH_ID: 'x',
      PROXY_CONFIG: '{}',
      OTEL_RESOURCE_ATTRIBUTES: 'a=b',
      NO_PROXY: '.svc',
      UNSET: undefined,
    };
    const secret = {
      DOCKER_AUTH_CONFIG: 's',
      DOCKER_CONFIG: '/s',
      REGISTRY_AUTH_FILE: '/s',
      HTTP_PROXY: 's',
      http_proxy: 's',
      HTTPS_PROXY: 's',
      https_proxy: 's',
      XDS_HEADER_X: 's',
      CA_HEADER_X: 's',
    };
    const { UNSET: _, ...kept } = given;
    assert.deepEqual(envoyEnvironment({ ...given, ...secret }, { EXTRA: 'e' }), { ...kept, EXTRA: 'e' });
  });
});

describe('the words for an end of Envoy', () => {
  test('are those of the stock agent', () => {
    assert.deepEqual(describeExit({ kind: 'exited', code: 0 }), {
      level: 'info',
      text: 'Envoy exited normally',
    });
    assert.deepEqual(describeExit({ kind: 'exited', code: 1 }), {
      level: 'error',
      text: 'Envoy exited with error: exit status 1',
    });
    assert.deepEqual(describeExit({ kind: 'killed', signal: 'SIGKILL', isByAgent: true }), {
      level: 'info',
      text: 'Envoy aborted normally',
    });
    assert.equal(
      describeExit({ kind: 'killed', signal: 'SIGSEGV', isByAgent: false }).text,
      'Envoy exited with error: signal: SIGSEGV',
    );
  });
});
