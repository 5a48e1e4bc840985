// npm run lockfile
//
// Run after a change of dependencies. Where a registry (a mirror, say) does not carry a platform's variant of a
// package, npm writes no entry for it, and `npm ci` then refuses the lockfile everywhere. This adds those entries:
// name, version and platform, without integrity, which only a machine of that platform would need.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const path = fileURLToPath(new URL('../../package-lock.json', import.meta.url));
const systems = /\b(aix|android|darwin|freebsd|linux|netbsd|openbsd|openharmony|sunos|win32)\b/;
const processors = /\b(arm64|armv7|arm|ia32|loong64|mips64el|ppc64|riscv64|s390x|wasm32|x64)\b/;

const lock = JSON.parse(readFileSync(path, 'utf8'));
const packages = lock.packages;

/** Whether a package required from `folder` has an entry in it or above it. */
function isLocked(folder, name) {
  for (
    let at = folder;
    ;
    at = at.includes('/node_modules/') ? at.slice(0, at.lastIndexOf('/node_modules/')) : ''
  ) {
    if (packages[`${at === '' ? '' : `${at}/`}node_modules/${name}`] !== undefined) return true;
    if (at === '') return false;
  }
}

function describePlatform(name) {
  const [, os] = systems.exec(name) ?? [];
  const [, cpu] = processors.exec(name) ?? [];
  const libc = /musl/.test(name) ? 'musl' : /gnu/.test(name) ? 'glibc' : undefined;
  return {
    ...(cpu === undefined ? {} : { cpu: [cpu === 'armv7' ? 'arm' : cpu] }),
    ...(os === undefined ? {} : { os: [os] }),
    ...(libc === undefined ? {} : { libc: [libc] }),
  };
}

let addedCount = 0;
for (const [folder, entry] of Object.entries({ ...packages })) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    if (isLocked(folder, name)) continue;
    if (!/^\d/.test(version))
      throw new Error(`${name}@${version} of ${folder}: only exact versions can be added`);
    packages[`node_modules/${name}`] = {
      version,
      ...(entry.dev === true ? { dev: true } : {}),
      optional: true,
      ...describePlatform(name),
    };
    addedCount += 1;
  }
}
lock.packages = Object.fromEntries(Object.entries(packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
console.log(`package-lock.json: ${addedCount} platform entries added`);
