import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { before, describe, test } from 'node:test';
import * as fc from 'fast-check';
import { type ModuleReading, readModule } from '../../../../agent/wasm/preflight/module-reader.ts';
import type { ByteSource } from '../../../../agent/wasm/preflight/section-reader.ts';
import { buildPlugin } from '../../../support/plugin-build.ts';
import { acceptedModules } from '../../../support/wasm-fixtures/accepted-modules.ts';
import { crashingModules } from '../../../support/wasm-fixtures/crashing-modules.ts';
import {
  customSection,
  moduleHeader,
  section,
  text,
  unsigned,
} from '../../../support/wasm-fixtures/encoding.ts';
import { hostAbiModules } from '../../../support/wasm-fixtures/host-abi-modules.ts';
import { memorySource } from '../../../support/wasm-fixtures/memory-source.ts';
import { functionNames } from '../../../support/wasm-fixtures/module-builder.ts';
import { pluginModule } from '../../../support/wasm-fixtures/plugin-module.ts';

/** What is used of the JavaScript interface, whose types come only with the DOM. */
interface WebAssemblyInterface {
  validate(bytes: Uint8Array): boolean;
  Module: (new (
    bytes: Uint8Array,
  ) => object) & {
    imports(module: object): readonly { module: string; name: string; kind: string }[];
    exports(module: object): readonly { name: string; kind: string }[];
  };
}

const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: WebAssemblyInterface };

/** Fixed, so that a failure is seen again; each property stops at its time at the latest. */
const propertyOptions = { seed: 20_260_722, numRuns: 400, interruptAfterTimeLimit: 4_000 } as const;

/** A module with every section this reader looks into, and the real plugin. */
const subjects: Uint8Array[] = [];

before(async () => {
  subjects.push(
    await readFile((await buildPlugin()).path),
    pluginModule({ trailingSections: [functionNames([[0, 'first']]), customSection('other', [1, 2, 3])] }),
    ...[...hostAbiModules, ...acceptedModules, ...crashingModules]
      .map((each) => each.build())
      .filter((bytes) => bytes.byteLength < 20_000),
  );
});

const subjectIndex = fc.nat().map((n) => n % subjects.length);

function subject(index: number): Uint8Array {
  return subjects[index] ?? assert.fail('there are subjects');
}

/** What must hold of any bytes. */
async function checkReading(bytes: Uint8Array): Promise<ModuleReading> {
  const reading = await readModule(memorySource(bytes));
  if (reading.kind === 'failed') {
    assert.ok(reading.offset >= 0 && reading.offset <= bytes.byteLength, `offset ${reading.offset}`);
    assert.notEqual(reading.message, '');
    // A bad name section is the one thing that Envoy refuses and V8 takes.
    if (reading.code !== 'malformed_name_section') {
      assert.equal(WebAssembly.validate(bytes), false, `V8 takes what was called ${JSON.stringify(reading)}`);
    }
  }
  return reading;
}

describe('the module reader, given anything', () => {
  test('answers random bytes, with and without a header', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), fc.boolean(), async (bytes, hasHeader) => {
        await checkReading(hasHeader ? Uint8Array.from([...moduleHeader, ...bytes]) : bytes);
      }),
      propertyOptions,
    );
  });

  test('answers random sections of known kinds', async () => {
    const sections = fc.array(
      fc.tuple(fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 13), fc.uint8Array({ maxLength: 40 })),
      { maxLength: 6 },
    );
    await fc.assert(
      fc.asyncProperty(sections, async (parts) => {
        const encoded = parts.flatMap(([id, contents]) => section(id, [...contents]));
        await checkReading(Uint8Array.from([...moduleHeader, ...encoded]));
      }),
      propertyOptions,
    );
  });

  test('answers modules that are cut off', async () => {
    await fc.assert(
      fc.asyncProperty(subjectIndex, fc.double({ min: 0, max: 1, noNaN: true }), async (index, share) => {
        const bytes = subject(index);
        await checkReading(bytes.subarray(0, Math.floor(bytes.byteLength * share)));
      }),
      propertyOptions,
    );
  });

  test('answers modules with bytes changed, and never calls malformed what V8 takes', async () => {
    const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(subjectIndex, changes, async (index, edits) => {
        const bytes = Uint8Array.from(subject(index));
        // The first kilobyte holds all that is read; code follows.
        for (const [position, value] of edits) bytes[position % Math.min(bytes.byteLength, 1024)] = value;
        await checkReading(bytes);
      }),
      { ...propertyOptions, numRuns: 3_000 },
    );
  });

  test('reads the same from a source that gives a few bytes at a time', async () => {
    await fc.assert(
      fc.asyncProperty(subjectIndex, fc.integer({ min: 1, max: 700 }), async (index, chunkBytes) => {
        const bytes = subject(index);
        assert.deepEqual(
          await readModule(memorySource(bytes, chunkBytes)),
          await readModule(memorySource(bytes)),
        );
      }),
      { ...propertyOptions, numRuns: 100 },
    );
  });
});

describe('the module reader', () => {
  test('names the imports and exports that V8 names', async () => {
    let comparedCount = 0;
    for (const bytes of subjects) {
      if (!WebAssembly.validate(bytes)) continue;
      const reading = await readModule(memorySource(bytes));
      assert.ok(reading.kind === 'module', JSON.stringify(reading));
      const module = new WebAssembly.Module(bytes);
      const { imports, exports } = reading.summary;
      // V8 gives more fields for some kinds than these.
      const seen = WebAssembly.Module.imports(module).map((each) => [each.module, each.name, each.kind]);
      assert.deepEqual(
        imports.map((each) => [each.module, each.name, each.extern.kind]),
        seen,
      );
      assert.deepEqual(
        exports.map((each) => [each.name, each.extern.kind]),
        WebAssembly.Module.exports(module).map((each) => [each.name, each.kind]),
      );
      comparedCount += 1;
    }
    assert.ok(comparedCount > 30, `${comparedCount} modules were compared`);
  });

  test('has no help from V8 with what ends Envoy: all of it validates', () => {
    for (const each of crashingModules) assert.ok(WebAssembly.validate(each.build()), each.name);
  });

  test('passes over code and data without reading them', async () => {
    const plugin = pluginModule();
    const dataBytes = 50 * 1024 * 1024;
    const head = Uint8Array.from([11, ...unsigned(dataBytes)]);
    const head2 = Uint8Array.from([0, ...unsigned(dataBytes), ...text('debug')]);
    const parts = Buffer.concat([plugin, head]);
    const tail = Buffer.concat([head2]);
    const sizeBytes = parts.byteLength + dataBytes + head2.byteLength + dataBytes - text('debug').length;
    let readBytes = 0;
    let largestReadBytes = 0;
    const source: ByteSource = {
      sizeBytes,
      read(target, position) {
        const wantedBytes = Math.min(target.byteLength, sizeBytes - position);
        target.fill(0, 0, wantedBytes);
        for (const [part, start] of [
          [parts, 0],
          [tail, parts.byteLength + dataBytes],
        ] as const) {
          for (let i = 0; i < wantedBytes; i += 1) {
            const byte = part[position + i - start];
            if (byte !== undefined) target[i] = byte;
          }
        }
        readBytes += wantedBytes;
        largestReadBytes = Math.max(largestReadBytes, wantedBytes);
        return Promise.resolve(wantedBytes);
      },
    };
    const reading = await readModule(source);
    assert.equal(reading.kind, 'module', JSON.stringify(reading));
    assert.ok(readBytes < 512 * 1024, `${readBytes} bytes were read`);
    assert.ok(largestReadBytes <= 64 * 1024, `${largestReadBytes} bytes were read at once`);
  });

  test('says where a file ends that became shorter while it was read', async () => {
    const bytes = pluginModule();
    const source: ByteSource = {
      sizeBytes: bytes.byteLength,
      read(target, position) {
        const chunk = bytes.subarray(position, Math.min(position + target.byteLength, 40));
        target.set(chunk);
        return Promise.resolve(chunk.byteLength);
      },
    };
    const reading = await readModule(source);
    assert.ok(reading.kind === 'failed');
    assert.deepEqual([reading.code, reading.offset], ['malformed', 40]);
    assert.match(reading.message, /became shorter/);
  });

  test('takes no more entries than it keeps', async () => {
    const tooMany = [
      customSection('a', []),
      section(1, [...unsigned(100_001), ...Array.from({ length: 100_001 }, () => 0)]),
    ];
    const sections = Array.from({ length: 10_001 }, () => customSection('a', []));
    for (const trailing of [tooMany, sections]) {
      const bytes = Uint8Array.from([...moduleHeader, ...trailing.flat()]);
      const reading = await readModule(memorySource(bytes));
      assert.equal(reading.kind === 'failed' && reading.code, 'too_complex', JSON.stringify(reading));
    }
  });

  test('hands on an error of its source', async () => {
    const failure = new Error('the disk is gone');
    const source: ByteSource = { sizeBytes: 100, read: () => Promise.reject(failure) };
    await assert.rejects(readModule(source), failure);
  });
});
