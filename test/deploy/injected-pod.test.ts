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
  const { taken, refused } = JSON.parse(output) as Record<'taken' | 'refused', readonly string[]>;
  assert.deepEqual(refused, []);
  // The entry, the command, the agent and what they share.
  assert.ok(taken.includes('./main.js') && taken.length > 10, output);
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
