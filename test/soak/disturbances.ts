import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import type { Fault } from '../support/fault.ts';
import { clientPreface } from '../support/http2-frames.ts';
import type { SeededRandom } from '../support/seeded-random.ts';
import type { SoakScene } from './soak-scene.ts';

/** What a disturbance may use, and what it leaves for the quiet time to undo. */
export interface DisturbanceContext {
  readonly scene: SoakScene;
  readonly random: SeededRandom;
  /** Called at the next quiet time. */
  readonly undo: (action: () => void) => void;
}

/** One thing that happens to an agent in its life. */
export interface Disturbance {
  readonly name: string;
  readonly run: (context: DisturbanceContext) => Promise<void> | void;
}

const pushSizes = [1_000, 10_000, 100_000, 1_000_000, 5_000_000];
const anything = { path: /\// } as const;
/** What either server may do; nothing says of a plain file that a byte of it was altered on its way. */
const faults: readonly Fault[] = [
  { kind: 'disconnect' },
  { kind: 'status', status: 503 },
  { kind: 'status', status: 429, headers: { 'retry-after': '1' } },
  { kind: 'status', status: 200, body: '<html>login</html>' },
  { kind: 'cut', afterBytes: 1_000 },
];
/** What only a registry's digests show. */
const digestFaults: readonly Fault[] = [...faults, { kind: 'wrong-bytes', atByte: 500 }];

/** All of them; each is picked as often as any other. */
export const disturbances: readonly Disturbance[] = [
  {
    name: 'pushes of mixed sizes',
    run: ({ scene, random }) => {
      const sizes = Array.from({ length: random.integer(1, 4) }, () => random.pick(pushSizes));
      scene.pushBallast(sizes);
    },
  },
  {
    name: 'twenty pushes in a row',
    run: ({ scene, random }) => {
      for (let index = 0; index < 20; index += 1) scene.pushBallast([random.pick(pushSizes.slice(0, 3))]);
    },
  },
  {
    name: 'a push of extension configs that changes nothing',
    run: ({ scene }) => void scene.controlPlane.pushEcds(),
  },
  {
    name: 'another plugin',
    run: ({ scene, random }) => {
      const { url, label } = random.pick(scene.builds);
      scene.pushPlugin(url, label, { isAlways: random.chance(0.3) });
    },
  },
  {
    name: 'many plugins',
    run: ({ scene, random }) => {
      const { url, label } = random.pick(scene.builds);
      scene.pushPlugin(url, label, { extraCount: random.integer(2, 6) });
    },
  },
  { name: 'no plugin', run: ({ scene }) => scene.removePlugins() },
  {
    name: 'a plugin that is not there',
    run: ({ scene, random }) => {
      const missing = random.pick([
        `${scene.origin.http.url}/missing.wasm`,
        `oci://${scene.registry.host}/soak/missing:tag`,
        'not a url',
      ]);
      scene.pushPlugin(missing, 'missing');
    },
  },
  {
    name: 'a fault of registry or web server',
    run: ({ scene, random, undo }) => {
      const isRegistry = random.chance(0.5);
      const server = isRegistry ? scene.registry.http : scene.origin.http;
      const fault = random.pick(isRegistry ? digestFaults : faults);
      server.script({ ...anything, times: random.integer(1, 20) }, fault);
      undo(() => server.heal());
      const { url, label } = random.pick(scene.builds);
      scene.pushPlugin(url, label, { isAlways: true });
    },
  },
  {
    name: 'a download that stalls',
    run: ({ scene, random, undo }) => {
      const released = Promise.withResolvers<void>();
      for (const { http } of [scene.registry, scene.origin]) {
        http.script(anything, { kind: 'stall', afterBytes: 1_000, until: () => released.promise });
      }
      undo(() => {
        released.resolve();
        scene.registry.http.heal();
        scene.origin.http.heal();
      });
      const { url, label } = random.pick(scene.builds);
      scene.pushPlugin(url, label, { isAlways: true });
    },
  },
  {
    name: 'streams ended by the control plane',
    run: ({ scene }) => scene.controlPlane.closeStreams({ code: status.UNAVAILABLE, details: 'soak' }),
  },
  {
    name: 'a restart of the control plane',
    run: async ({ scene, random }) => {
      await scene.controlPlane.stop();
      await sleep(random.integer(0, 1_500));
      await scene.controlPlane.start();
    },
  },
  {
    name: 'a silent control plane',
    run: async ({ scene, random, undo }) => {
      scene.controlPlane.mute();
      undo(() => void scene.controlPlane.unmute());
      const { url, label } = random.pick(scene.builds);
      scene.pushPlugin(url, label);
      await sleep(random.integer(100, 500));
      scene.controlPlane.unmute();
    },
  },
  {
    name: 'an Envoy that stands still amid pushes',
    run: async ({ scene, random, undo }) => {
      undo(() => scene.signalEnvoy('SIGCONT'));
      scene.signalEnvoy('SIGSTOP');
      scene.pushBallast([random.pick(pushSizes), random.pick(pushSizes)]);
      const { url, label } = random.pick(scene.builds);
      scene.pushPlugin(url, label);
      await sleep(random.integer(200, 1_500));
      scene.signalEnvoy('SIGCONT');
    },
  },
  {
    name: 'silent connections to the XDS socket',
    run: ({ scene, random, undo }) => {
      for (let index = 0; index < 5; index += 1) {
        const socket = connect(scene.xdsSocketPath);
        socket.on('error', () => undefined);
        socket.write(clientPreface.subarray(0, random.integer(0, clientPreface.length)));
        undo(() => socket.destroy());
      }
    },
  },
  {
    name: 'another name table',
    run: ({ scene, random }) => scene.pushNames(random.integer(1, 500)),
  },
  { name: 'another token', run: ({ scene }) => scene.mesh.replaceToken() },
  { name: "another root beside istiod's", run: ({ scene }) => scene.mesh.replaceRoot() },
  { name: 'another intermediate of the CA', run: ({ scene }) => scene.mesh.replaceIntermediate() },
  {
    name: 'a CA that fails',
    run: ({ scene, random }) => scene.mesh.failNextRequests(random.integer(1, 3)),
  },
  {
    name: 'an application that is not ready',
    run: ({ scene, undo }) => {
      scene.application.isReady = false;
      undo(() => {
        scene.application.isReady = true;
      });
    },
  },
];
