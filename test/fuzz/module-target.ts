import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { type ModuleReading, readModule } from '../../agent/wasm/preflight/module-reader.ts';
import { judgeReading } from '../../agent/wasm/preflight/preflight.ts';
import { envoyMaxMemoryPages } from '../../agent/wasm/preflight/verdict.ts';
import { acceptedModules } from '../support/wasm-fixtures/accepted-modules.ts';
import { crashingModules } from '../support/wasm-fixtures/crashing-modules.ts';
import { hostAbiModules } from '../support/wasm-fixtures/host-abi-modules.ts';
import { memorySource } from '../support/wasm-fixtures/memory-source.ts';
import type { FuzzTarget } from './fuzz-target.ts';

const { WebAssembly } = globalThis as unknown as {
  readonly WebAssembly: { validate(bytes: Uint8Array): boolean };
};

/** Modules that are changed; large ones say nothing more. */
const subjects = [...hostAbiModules, ...acceptedModules, ...crashingModules]
  .map((each) => each.build())
  .filter((bytes) => bytes.byteLength < 20_000);

const subject = fc
  .nat()
  .map((index) => subjects[index % subjects.length] ?? assert.fail('there are subjects'));

type Edit =
  | { readonly kind: 'set'; readonly position: number; readonly byte: number }
  | { readonly kind: 'cut'; readonly position: number; readonly count: number }
  | { readonly kind: 'insert'; readonly position: number; readonly bytes: Uint8Array }
  | { readonly kind: 'splice'; readonly position: number; readonly other: Uint8Array };

const edit: fc.Arbitrary<Edit> = fc.oneof(
  fc.record({ kind: fc.constant('set' as const), position: fc.nat(), byte: fc.nat(255) }),
  fc.record({
    kind: fc.constant('cut' as const),
    position: fc.nat(),
    count: fc.integer({ min: 1, max: 40 }),
  }),
  fc.record({
    kind: fc.constant('insert' as const),
    position: fc.nat(),
    bytes: fc.uint8Array({ maxLength: 12 }),
  }),
  fc.record({ kind: fc.constant('splice' as const), position: fc.nat(), other: subject }),
);

function applied(bytes: Uint8Array, change: Edit): Uint8Array {
  const at = change.position % (bytes.byteLength + 1);
  const head = bytes.subarray(0, at);
  switch (change.kind) {
    case 'set':
      return Buffer.concat([head, Buffer.of(change.byte), bytes.subarray(at + 1)]);
    case 'cut':
      return Buffer.concat([head, bytes.subarray(at + change.count)]);
    case 'insert':
      return Buffer.concat([head, change.bytes, bytes.subarray(at)]);
    case 'splice':
      return Buffer.concat([head, change.other.subarray(at)]);
    default:
      return change satisfies never;
  }
}

/** Modules are read or refused at a place within them, never called broken where V8 takes them, and judged. */
export const moduleTarget: FuzzTarget = {
  name: 'module',
  property: fc.asyncProperty(
    subject,
    fc.array(edit, { maxLength: 4 }),
    fc.integer({ min: 1, max: 700 }),
    async (original, edits, chunkBytes) => {
      const bytes = edits.reduce(applied, original);
      const reading: ModuleReading = await readModule(memorySource(bytes));
      assert.deepEqual(await readModule(memorySource(bytes, chunkBytes)), reading);
      if (reading.kind === 'failed') {
        assert.ok(reading.offset >= 0 && reading.offset <= bytes.byteLength, `offset ${reading.offset}`);
        assert.notEqual(reading.message, '');
        // A bad name section is the one thing that Envoy refuses and V8 takes.
        if (reading.code !== 'malformed_name_section') {
          assert.equal(
            WebAssembly.validate(bytes),
            false,
            `V8 takes what was called ${JSON.stringify(reading)}`,
          );
        }
      }
      const verdict = judgeReading(reading, { maxMemoryPages: envoyMaxMemoryPages });
      if (verdict.kind === 'refused') assert.ok(verdict.reasons.every(({ message }) => message !== ''));
    },
  ),
};
