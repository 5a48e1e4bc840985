import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { InjectedMount } from './injected-container.ts';

/** What the image has under `/usr/local`; see the Dockerfile. */
export interface ImageLayout {
  readonly nodePath: string;
  readonly bundleFolder: string;
  /** `deploy/image/ferry-agent`. */
  readonly launcherPath: string;
  /** The folder of `stock-agent.sh` and `envoy.sh`, which stand in for what Istio's image has. */
  readonly standInFolder: string;
  readonly envoyPath: string;
}

/** Where the container's file system comes from. */
export type PodBase =
  /** The root folder of an image that was built. */
  | { readonly kind: 'image'; readonly folder: string }
  /** This machine's `/usr`, with the image's layout under `/usr/local`. */
  | { readonly kind: 'host'; readonly layout: ImageLayout };

/** Files the kubelet puts into every container. */
const kubeletFiles = {
  '/etc/hosts': '127.0.0.1 localhost\n::1 localhost ip6-localhost\n',
  '/etc/resolv.conf':
    'search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 127.0.0.53\n',
};

function mount(...words: readonly string[]): void {
  execFileSync('mount', [...words], { stdio: ['ignore', 'ignore', 'inherit'] });
}

/**
 * The path on this machine of a path in the container. Links are followed as in the container: an image's `/var/run`
 * leads to its own `/run`, not to this machine's.
 */
function inside(root: string, path: string): string {
  let resolved = '';
  for (const name of path.split('/').filter(Boolean)) {
    const target = linkTarget(join(root, resolved, name));
    if (target === undefined) resolved = `${resolved}/${name}`;
    else resolved = target.startsWith('/') ? target : `/${join(resolved, target)}`;
  }
  return join(root, resolved);
}

/**
 * Mounts the container's file system at `root` (an empty folder): read-only, with the volumes of the pod. To be called
 * in a mount namespace of its own: all goes with its last process.
 */
export function mountPodRoot(root: string, base: PodBase, mounts: readonly InjectedMount[]): void {
  const volumes = join(dirname(root), 'volumes');
  mkdirSync(volumes);
  mount('-t', 'tmpfs', 'tmpfs', volumes);
  switch (base.kind) {
    case 'image':
      mount('--bind', base.folder, root);
      break;
    case 'host':
      mount('-t', 'tmpfs', '-o', 'mode=0755', 'tmpfs', root);
      writeHostBase(root, base.layout);
      break;
    default:
      base satisfies never;
  }
  for (const folder of ['dev', 'proc', 'etc', 'tmp']) mkdirSync(join(root, folder), { recursive: true });
  const targets = mounts.map(({ path, volume }, index) => {
    const source = join(volumes, String(index));
    mkdirSync(source);
    if (volume.kind === 'writable') execFileSync('chmod', ['0777', source]);
    else for (const [name, text] of Object.entries(volume.files)) writeFileSync(join(source, name), text);
    const target = inside(root, path);
    mkdirSync(target, { recursive: true });
    return { source, target, isFolder: true, isWritable: volume.kind === 'writable' };
  });
  for (const [path, text] of Object.entries(kubeletFiles)) {
    const source = join(volumes, path.replaceAll('/', '-'));
    writeFileSync(source, text);
    const target = inside(root, path);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, '', { flag: 'a' });
    targets.push({ source, target, isFolder: false, isWritable: false });
  }
  mount('-o', base.kind === 'image' ? 'remount,bind,ro' : 'remount,ro', root);
  for (const { source, target, isFolder } of targets) {
    // One volume may be mounted below another, which is there by now.
    if (isFolder) mkdirSync(target, { recursive: true });
    mount('--bind', source, target);
  }
  for (const { target, isWritable } of targets) if (!isWritable) mount('-o', 'remount,bind,ro', target);
  mount('--rbind', '/dev', join(root, 'dev'));
}

function writeHostBase(root: string, layout: ImageLayout): void {
  mkdirSync(join(root, 'usr'));
  mount('--bind', '/usr', join(root, 'usr'));
  mount('-o', 'remount,bind,ro', join(root, 'usr'));
  for (const name of ['bin', 'lib', 'lib64', 'sbin']) {
    symlinkSync(linkTarget(`/${name}`) ?? `usr/${name}`, join(root, name));
  }
  mkdirSync(join(root, 'etc'));
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/:/bin/sh\nistio-proxy:x:1337:1337::/:/bin/sh\n');
  const local = join(root, 'usr/local');
  mount('-t', 'tmpfs', '-o', 'mode=0755', 'tmpfs', local);
  for (const folder of ['bin', 'lib/ferry']) mkdirSync(join(local, folder), { recursive: true });
  cpSync(layout.nodePath, join(local, 'lib/ferry/node'), { dereference: true });
  for (const name of ['ferry-agent.cjs', 'start.cjs', 'ferry-agent.cache']) {
    cpSync(join(layout.bundleFolder, name), join(local, 'lib/ferry', name));
  }
  writeFileSync(join(local, 'lib/ferry/istio-version'), '1.27.0\n');
  cpSync(layout.launcherPath, join(local, 'bin/ferry-agent'));
  cpSync(join(layout.standInFolder, 'stock-agent.sh'), join(local, 'bin/pilot-agent.stock'));
  cpSync(join(layout.standInFolder, 'envoy.sh'), join(local, 'bin/envoy'));
  symlinkSync('ferry-agent', join(local, 'bin/pilot-agent'));
  cpSync(layout.envoyPath, join(local, 'bin/envoy.plain'), { dereference: true });
  execFileSync('chmod', ['-R', 'a+rX', local]);
  const programs = [
    'bin/ferry-agent',
    'bin/pilot-agent.stock',
    'bin/envoy',
    'bin/envoy.plain',
    'lib/ferry/node',
  ];
  execFileSync('chmod', ['0755', ...programs.map((program) => join(local, program))]);
  mount('-o', 'remount,ro', local);
}

/** Undefined where it is no link. */
function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
