/** Bundles the agent into dist/ferry-agent.cjs: one file, commands still loaded lazily. */
import { execFileSync } from 'node:child_process';
import { chmod, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const bundle = 'dist/ferry-agent.cjs';

function git(...words: readonly string[]): string {
  try {
    return execFileSync('git', words, {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    // Built from an archive: there is no repository.
    return 'unknown';
  }
}

const { version } = JSON.parse(await readFile(`${root}/package.json`, 'utf8')) as { version: string };
const changes = git('status', '--porcelain', '--untracked-files=no');
const buildInfo = {
  version,
  revision: git('rev-parse', 'HEAD'),
  status: changes === 'unknown' ? 'unknown' : changes === '' ? 'Clean' : 'Modified',
  tag: git('describe', '--tags', '--always'),
};

const result = await build({
  absWorkingDir: root,
  entryPoints: ['agent/cli/main.ts'],
  outfile: bundle,
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node24',
  minifySyntax: true,
  minifyWhitespace: true,
  keepNames: true,
  legalComments: 'linked',
  banner: { js: '#!/usr/bin/env node' },
  define: { 'globalThis.ferryBuild': JSON.stringify(buildInfo) },
  metafile: true,
  logLevel: 'warning',
});
// V8 holds a source text with one character over U+00FF in two bytes a character: 2 MB more in every pod.
const wide = /[^\0-\xff]/.exec(await readFile(`${root}/${bundle}`, 'utf8'));
if (wide !== null) {
  throw new Error(
    `${bundle} holds ${JSON.stringify(wide[0])} at ${wide.index}: write it as an escape in its source, also in regular expressions`,
  );
}
await chmod(`${root}/${bundle}`, 0o755);
const sizeBytes = result.metafile.outputs[bundle]?.bytes ?? 0;
console.log(`${bundle}: ${(sizeBytes / 1024).toFixed(0)} KiB`);
