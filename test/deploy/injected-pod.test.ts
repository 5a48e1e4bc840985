import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { findFerry } from '../bench/ferry-program.ts';
import { envoyBinary } from '../support/envoy.ts';
import { podSkipReason, runPodScene } from './run-pod-scene.ts';

const repository = new URL('../../', import.meta.url);
const path = (relative: string) => fileURLToPath(new URL(relative, repository));
const { path: envoyPath = '', skipReason } = envoyBinary();

test('V8 takes the code that the build keeps, with the flags of the start script', () => {
  execFileSync(process.execPath, [path('agent/build.ts')], { stdio: ['ignore', 'ignore', 'inherit'] });
  const { nodeArguments } = findFerry() ?? assert.fail('there is no bundle');
  const flags = nodeArguments.slice(0, -1);
  const script = fileURLToPath(new URL('kept-code.ts', import.meta.url));
  const output = execFileSync(process.execPath, [...flags, script, path('dist')], { encoding: 'utf8' });
  const kept = JSON.parse(output) as Record<'atStart' | 'later' | 'refused', readonly string[]>;
  assert.deepEqual(kept.refused, []);
  // The entry, the command, the agent and what they share.
  assert.ok(kept.atStart.includes('./main.js') && kept.atStart.length > 10, output);
  // What the first plugin loads: ECDS, the download, image manifests.
  for (const name of ['wasm-part', 'ecds-session', 'api-request', 'manifest-schema']) {
    assert.ok(
      kept.later.some((part) => part.startsWith(`./${name}-`)),
      output,
    );
  }
});

test('the image layout gets ready as injection starts sidecars, gateways and waypoints: stock arguments, mounts and ports, uid 1337, read-only root', {
  skip: skipReason ?? podSkipReason(),
}, async () => {
  const output = await runPodScene([
    'host',
    process.execPath,
    path('dist'),
    path('deploy/image/ferry-agent'),
    path('test/deploy'),
    envoyPath,
  ]);
  assert.match(output, /the injected containers run as they should\n$/);
});
