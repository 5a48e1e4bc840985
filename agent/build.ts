/**
 * Bundles the agent into dist/ferry-agent.cjs: one file, of which a process keeps only the parts that it runs. Beside it
 * come start.cjs, which runs the bundle without Node reading all of it, and ferry-agent.cache, V8's code of the parts that
 * a start and the first plugins run, for this Node and this bundle. See docs/decisions/start-up.md.
 */
import { execFileSync } from 'node:child_process';
import { chmod, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { type BuildOptions, build, transform } from 'esbuild';
import { joinParts } from './start/bundle-file.ts';

const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
const bundlePath = `${root}/dist/ferry-agent.cjs`;
const startPath = `${root}/dist/start.cjs`;
const cachePath = `${root}/dist/ferry-agent.cache`;
const legalPath = `${bundlePath}.LEGAL.txt`;

const common = {
  absWorkingDir: root,
  platform: 'node',
  target: 'node24',
  minifySyntax: true,
  minifyWhitespace: true,
  logLevel: 'warning',
} as const satisfies BuildOptions;

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

async function buildInfo() {
  const { version } = JSON.parse(await readFile(`${root}/package.json`, 'utf8')) as { version: string };
  const changes = git('status', '--porcelain', '--untracked-files=no');
  return {
    version,
    revision: git('rev-parse', 'HEAD'),
    status: changes === 'unknown' ? 'unknown' : changes === '' ? 'Clean' : 'Modified',
    tag: git('describe', '--tags', '--always'),
  };
}

/** What is behind an `import()` is a part of its own, and so is what several of them need. */
async function buildParts(): Promise<{
  readonly parts: ReadonlyMap<string, string>;
  readonly legalText: string;
}> {
  const { outputFiles } = await build({
    ...common,
    entryPoints: ['agent/cli/main.ts'],
    outdir: 'dist',
    bundle: true,
    splitting: true,
    format: 'esm',
    legalComments: 'linked',
    define: { 'globalThis.ferryBuild': JSON.stringify(await buildInfo()) },
    write: false,
  });
  const parts = new Map<string, string>();
  const legalTexts = new Set<string>();
  for (const { path, text } of outputFiles) {
    if (path.endsWith('.LEGAL.txt')) legalTexts.add(text);
    else parts.set(`./${path.slice(path.lastIndexOf('/') + 1)}`, await wrapPart(text));
  }
  return { parts, legalText: [...legalTexts].join('\n') };
}

/** A module as a function of the loader's `require`. */
async function wrapPart(text: string): Promise<string> {
  const { absWorkingDir: _, ...options } = common;
  const { code } = await transform(text, {
    ...options,
    format: 'cjs',
    // An import is a call of `require` in a promise: the loader knows no other way to a part.
    supported: { 'dynamic-import': false },
  });
  return `(function(require,module,exports){${code}\n})`;
}

async function buildLoader(): Promise<string> {
  const { outputFiles } = await build({
    ...common,
    entryPoints: ['agent/start/run-bundle.ts'],
    bundle: true,
    format: 'iife',
    globalName: 'loader',
    write: false,
  });
  const text = outputFiles[0]?.text ?? '';
  return `(function(require,path,table){${text}return loader.runBundle(require,path,table)})`;
}

const { parts, legalText } = await buildParts();
const { text, startText, table } = joinParts({
  loader: await buildLoader(),
  fileName: 'ferry-agent.cjs',
  entry: './main.js',
  parts,
});
await mkdir(`${root}/dist`, { recursive: true });
for (const path of [cachePath, startPath]) await rm(path, { force: true });
// A new file in the place of the old one: an agent that runs from the old one still reads its parts.
await writeFile(`${bundlePath}.new`, text, 'latin1');
await chmod(`${bundlePath}.new`, 0o755);
await rename(`${bundlePath}.new`, bundlePath);
await writeFile(startPath, startText, 'latin1');
await writeFile(legalPath, legalText);
for (const run of ['start', 'plugins']) {
  const recorder = `${root}/agent/start/record-code-cache.ts`;
  execFileSync(process.execPath, [recorder, bundlePath, cachePath, run], {
    input: JSON.stringify(table),
    stdio: ['pipe', 'ignore', 'inherit'],
    timeout: 60_000,
  });
}
const kib = async (path: string) => ((await stat(path)).size / 1024).toFixed(0);
console.log(`dist/ferry-agent.cjs: ${await kib(bundlePath)} KiB, ${parts.size} parts`);
console.log(`dist/ferry-agent.cache: ${await kib(cachePath)} KiB`);
