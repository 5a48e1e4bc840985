import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { Script } from 'node:vm';
import { buildSync } from 'esbuild';
import { type BundleFile, joinParts } from '../../../agent/start/bundle-file.ts';
import { encodeCodeCache, KeptCode } from '../../../agent/start/code-cache-file.ts';

const main = `(function(require,module,exports){
  console.log("main", require("./shared.js").text, require("node:path").basename("/a/b"));
  if (process.argv[2] === "lazy") console.log(require("./lazy.js").value);
})`;
const shared = `(function(require,module,exports){
  exports.text = "/* a comment */".replace(/a*/g, "").length + [/[\\s,]*/y, "*/"].join("");
})`;
const lazy =
  '(function(require,module,exports){ exports.value = "lazy " + (require("./main.js") !== undefined); })';
const parts = new Map([
  ['./lazy.js', lazy],
  ['./main.js', main],
  ['./shared.js', shared],
]);

const mainLine = 'main 14/[\\s,]*/y*/ b\n';

/** As the build makes it. */
const loaderText = (() => {
  const { outputFiles } = buildSync({
    entryPoints: [join(import.meta.dirname, '../../../agent/start/run-bundle.ts')],
    bundle: true,
    platform: 'node',
    format: 'iife',
    globalName: 'loader',
    write: false,
  });
  return `(function(require,path,table){${outputFiles[0]?.text}return loader.runBundle(require,path,table)})`;
})();

const join3 = (given: ReadonlyMap<string, string>): BundleFile =>
  joinParts({ loader: loaderText, fileName: 'program.cjs', entry: './main.js', parts: given });

describe('a program in parts', () => {
  let folder = '';
  const path = (name: string) => join(folder, name);
  const run = (...words: readonly string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, words, { cwd: folder, encoding: 'utf8' });
    return { status, stdout, stderr };
  };

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'ferry-bundle-'));
    const { text, startText } = join3(parts);
    writeFileSync(path('program.cjs'), text, 'latin1');
    writeFileSync(path('start.cjs'), startText, 'latin1');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  for (const file of ['program.cjs', 'start.cjs']) {
    test(`runs from ${file}`, () => {
      assert.deepEqual(run(file), { status: 0, stdout: mainLine, stderr: '' });
      assert.deepEqual(run(file, 'lazy'), { status: 0, stdout: `${mainLine}lazy true\n`, stderr: '' });
    });
  }

  test('reads a part only when it is asked for', () => {
    // The first part is the last byte range that is still there.
    const { table } = join3(parts);
    const place = table.parts['./shared.js'];
    assert.ok(place !== undefined);
    truncateSync(path('program.cjs'), table.start + place[0]);
    const { status, stderr } = run('start.cjs');
    assert.equal(status, 1);
    assert.match(stderr, /program\.cjs ends within its part \.\/shared\.js: install the bundle again/);
  });

  test('names the file and the part in a stack', () => {
    const failing = new Map([
      ...parts,
      ['./main.js', '(function fail(){\n  throw new Error("from a part");\n})'] as const,
    ]);
    writeFileSync(path('program.cjs'), join3(failing).text, 'latin1');
    assert.match(run('program.cjs').stderr, /from a part\n +at .*program\.cjs\/main\.js:2:9/);
  });

  test('uses code that V8 kept, and runs without it when it is of another bundle or damaged', () => {
    const { table } = join3(parts);
    // Not the code of this part: it shows that it is what runs.
    const other = main.replace('"main"', '"kept"');
    const codes = new Map([['./main.js', new Script(other).createCachedData()]]);
    writeFileSync(path('program.cache'), encodeCodeCache({ bundleId: table.bundleId, codes }));
    assert.equal(run('start.cjs').stdout, mainLine.replace('main', 'kept'));
    writeFileSync(path('program.cache'), encodeCodeCache({ bundleId: 'another', codes }));
    assert.equal(run('start.cjs').stdout, mainLine);
    for (const bytes of ['', 'x', '\xff\xff\xff\xff{}', '\x02\0\0\0{}', '\x02\0\0\0[]']) {
      writeFileSync(path('program.cache'), bytes, 'latin1');
      assert.deepEqual(run('start.cjs'), { status: 0, stdout: mainLine, stderr: '' });
    }
  });

  for (const [text, code] of [
    ['\u{3bb}', '03BB'],
    ['\u{e9}', '00E9'],
    ['*\x01', '0001'],
  ] as const) {
    test(`refuses U+${code}, which a part cannot hold`, () => {
      const odd = new Map([['./main.js', `(function(){ return "${text}"; })`]]);
      assert.throws(() => join3(odd), {
        message: new RegExp(`^\\./main\\.js holds U\\+${code} at 2[12]: write it as an escape`),
      });
    });
  }
});

test('code is kept in a file byte by byte, and given once', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ferry-cache-'));
  try {
    const codes = new Map([
      ['./a.js', Buffer.from('abc')],
      ['./b.js', Buffer.alloc(0)],
      ['./c.js', Buffer.from('0123456789abcdef')],
      ['./d.js', Buffer.from('the last')],
    ]);
    const file = join(folder, 'x.cache');
    writeFileSync(file, encodeCodeCache({ bundleId: 'b', codes }));
    const kept = KeptCode.open(file, 'b');
    assert.ok(kept !== undefined);
    assert.equal(kept.take('./c.js')?.toString(), '0123456789abcdef');
    assert.equal(kept.take('./a.js')?.toString(), 'abc');
    assert.equal(kept.take('./b.js')?.length, 0);
    assert.equal(kept.take('./a.js'), undefined);
    assert.equal(kept.take('./other.js'), undefined);
    assert.deepEqual(kept.names, ['./d.js']);
    truncateSync(file, readFileSync(file).length - 1);
    assert.equal(kept.take('./d.js'), undefined);
    assert.equal(KeptCode.open(file, 'c'), undefined);
    assert.equal(KeptCode.open(join(folder, 'absent'), 'b'), undefined);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
