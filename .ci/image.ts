// Runs .ci/image with the Envoy that setup brings.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const { status } = spawnSync(fileURLToPath(new URL('image', import.meta.url)), {
  stdio: 'inherit',
  env: { ...process.env, NODE_24: process.execPath },
});
process.exitCode = status ?? 1;
