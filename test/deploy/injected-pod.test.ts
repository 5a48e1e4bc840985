import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { envoyBinary } from '../support/envoy.ts';
import { podSkipReason, runPodScene } from './run-pod-scene.ts';

const repository = new URL('../../', import.meta.url);
const path = (relative: string) => fileURLToPath(new URL(relative, repository));
const { path: envoyPath = '', skipReason } = envoyBinary();

test('the image layout gets ready as injection starts sidecars and gateways: stock arguments, mounts and ports, uid 1337, read-only root', {
  skip: skipReason ?? podSkipReason(),
}, async () => {
  execFileSync(process.execPath, [path('agent/build.ts')], { stdio: ['ignore', 'ignore', 'inherit'] });
  const output = await runPodScene([
    'host',
    process.execPath,
    path('dist'),
    path('deploy/image/ferry-agent'),
    envoyPath,
  ]);
  assert.match(output, /the injected containers run as they should\n$/);
});
