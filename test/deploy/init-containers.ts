/** The init containers that injection puts before the proxy: they run the proxy's image, with other arguments. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { enterContainer, entryPoint, imageVariables } from './container-command.ts';
import { mountPodRoot, type PodBase } from './pod-root.ts';

interface InitContainer {
  readonly name: string;
  readonly args: readonly string[];
  readonly userId: number;
  /** What `stock-agent.sh` ends with. */
  readonly exitCode: number;
}

/** Source: istio/istio `manifests/charts/istio-control/istio-discovery/files/injection-template.yaml`, defaults of the chart. */
const rules: readonly string[] = [
  'istio-iptables',
  ...'-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x  -b * -d 15090,15021,15020'.split(' '),
  '--log_output_level=default:info',
];

const initContainers: readonly InitContainer[] = [
  { name: 'istio-init', args: rules, userId: 0, exitCode: 0 },
  {
    name: 'istio-validation',
    args: [...rules, '--run-validation', '--skip-rule-apply'],
    userId: 1337,
    // The repair controller of Istio's CNI plugin looks for it.
    exitCode: 126,
  },
  // Until Istio 1.24, in clean-up jobs.
  { name: 'clean', args: ['istio-clean-iptables'], userId: 0, exitCode: 0 },
];

/**
 * Runs each, without volumes and on a read-only root: the stock binary must take the place of the first process, so
 * that it gets the signals, with the arguments as given, and its exit code must be the container's.
 */
export function checkInitContainers(folder: string, base: PodBase): void {
  for (const { name, args, userId, exitCode } of initContainers) {
    const root = join(folder, name, 'root');
    mkdirSync(root, { recursive: true });
    mountPodRoot(root, base, []);
    const words = ['--pid', '--fork', ...enterContainer(root, userId), entryPoint, ...args];
    const { status, stdout, stderr } = spawnSync('unshare', words, {
      env: imageVariables,
      encoding: 'utf8',
      timeout: 30_000,
    });
    assert.deepEqual(
      { status, stdout, stderr },
      { status: exitCode, stdout: `stock agent, process 1: ${args.join(' ')}\n`, stderr: '' },
      name,
    );
  }
}
