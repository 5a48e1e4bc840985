import type { Bytes } from './encoding.ts';
import { anyref, exnref, funcref, type ImportDescription, i32, v128 } from './module-builder.ts';
import {
  callLog,
  exported,
  firstAddedFunction,
  importedFunction,
  importedLog,
  inner,
  pluginModule,
  signature,
} from './plugin-module.ts';
import { crashingCase, type PreflightCase } from './preflight-case.ts';

const wasi = 'wasi_snapshot_preview1';
const nothing = signature([], []);
const structType: Bytes = [0x5f, 0x00];
const functionType: Bytes = [0x60, 0x00, 0x00];
/** A reference, null or not, to the type of index 0. */
const refToType0: Bytes = [0x63, 0x00];
/** References to nothing at all, of the function and of the external kind. */
const nullfuncref: Bytes = [0x73];
const nullexternref: Bytes = [0x72];
const i31ref: Bytes = [0x6c];
/** One instruction and more of each operand layout, none of which branches; the function has a local of i32. */
const manyInstructions: readonly Bytes[] = [
  [0x41, 0x80, 0x80, 0x80, 0x80, 0x78, 0x1a],
  [0x42, 0x80, 0x01, 0x1a],
  [0x43, 0x0b, 0x0b, 0x0b, 0x0b, 0x1a],
  [0x44, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x0f, 0x1a],
  // Blocks without, with one and with an indexed type; the index is that of () -> ().
  [0x02, 0x40, 0x0b, 0x02, 0x7f, 0x41, 0, 0x0b, 0x1a, 0x03, 0x40, 0x0b],
  [0x41, 0, 0x04, 0x7f, 0x41, 1, 0x05, 0x41, 2, 0x0b, 0x1a],
  // Locals, memory, tables.
  [0x41, 5, 0x21, 0, 0x20, 0, 0x22, 0, 0x1a],
  [0x41, 0, 0x28, 2, 4, 0x1a, 0x41, 0, 0x41, 1, 0x3a, 0, 0],
  [0x3f, 0, 0x1a, 0x41, 0, 0x40, 0, 0x1a],
  [0x41, 0, 0x25, 0, 0x1a, 0x41, 0, 0xd0, 0x70, 0x26, 0],
  // Choices, references.
  [0x41, 0, 0x41, 1, 0x41, 0, 0x1b, 0x1a, 0x41, 0, 0x41, 1, 0x41, 0, 0x1c, 1, 0x7f, 0x1a],
  [0xd0, 0x70, 0xd1, 0x1a, 0xd2, 0, 0x1a, 0xd0, 0x6e, 0x1a],
  // After 0xfc: truncation, bulk memory, tables.
  [0x43, 0, 0, 0, 0, 0xfc, 0, 0x1a],
  [0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 10, 0, 0, 0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 11, 0],
  [0xfc, 16, 0, 0x1a, 0xd0, 0x70, 0x41, 0, 0xfc, 15, 0, 0x1a],
  // After 0xfd: a constant, a shuffle, a lane, a load, a load of a lane, an addition, a relaxed one.
  [0xfd, 12, ...Array.from({ length: 16 }, () => 0x0b), 0x1a],
  [
    0x41,
    0,
    0xfd,
    0,
    0,
    0,
    0x41,
    0,
    0xfd,
    92,
    2,
    0,
    0xfd,
    13,
    ...Array.from({ length: 16 }, () => 0x10),
    0x1a,
  ],
  [0x41, 0, 0x41, 0, 0xfd, 0, 0, 0, 0xfd, 84, 0, 0, 3, 0xfd, 21, 3, 0x1a],
  [0x41, 0, 0xfd, 15, 0x41, 0, 0xfd, 15, 0xfd, 110, 0x41, 0, 0xfd, 15, 0xfd, 0x80, 0x02, 0x1a],
  // After 0xfe: a fence and a load.
  [0xfe, 3, 0, 0x41, 0, 0xfe, 0x10, 2, 0, 0x1a],
  // After 0xfb: an i31 and back, a cast that never fails.
  [0x41, 1, 0xfb, 28, 0xfb, 29, 0x1a, 0xd0, 0x6e, 0xfb, 23, 0x6e, 0x1a],
];

const zeroV128: Bytes = [0xfd, 12, ...Array.from({ length: 16 }, () => 0)];
const nullAny: Bytes = [0xd0, 0x6e];

function importing(imported: ImportDescription): Uint8Array {
  return pluginModule({ imports: [imported] });
}

function exportingFunctionOf(type: Bytes, leadingTypes: readonly Bytes[] = []): Uint8Array {
  return pluginModule({ leadingTypes, functions: [exported('border', [type], [])] });
}

function exportingTable(element: Bytes, max: number | undefined, is64: boolean): Uint8Array {
  const limits = max === undefined ? { min: 1 } : { min: 1, max };
  return pluginModule({
    leadingTypes: [functionType],
    tables: [{ element, is64, ...limits }],
    exports: [{ name: 'table', kind: 'table', index: 0 }],
  });
}

/** Imports one host function and runs `body` in its start section. */
function starting(imported: ImportDescription, body: Bytes): Uint8Array {
  return pluginModule({
    imports: [imported],
    start: firstAddedFunction(1),
    functions: [inner([], [], body)],
  });
}

/** Modules that pass V8's validation and end the Envoy process. */
export const crashingModules: readonly PreflightCase[] = [
  crashingCase('imports a tag', 'crash_class_tag', () =>
    importing({ module: 'env', name: 'tag', kind: 'tag', type: nothing }),
  ),
  crashingCase('exports a tag', 'crash_class_tag', () =>
    pluginModule({ tags: [nothing], exports: [{ name: 'tag', kind: 'tag', index: 0 }] }),
  ),
  crashingCase('imports a function with a v128 parameter', 'crash_class_value_type', () =>
    importing(importedFunction('env', 'simd', [v128], [])),
  ),
  crashingCase('imports a function with an anyref parameter', 'crash_class_value_type', () =>
    importing(importedFunction('env', 'any', [anyref], [])),
  ),
  crashingCase('imports a function with an exnref result', 'crash_class_value_type', () =>
    importing(importedFunction('env', 'exception', [], [exnref])),
  ),
  crashingCase('imports a v128 global', 'crash_class_value_type', () =>
    importing({ module: 'env', name: 'global', kind: 'global', type: v128 }),
  ),
  crashingCase('imports a table of anyref', 'crash_class_value_type', () =>
    importing({ module: 'env', name: 'table', kind: 'table', element: anyref, min: 1 }),
  ),
  crashingCase('exports a function with a v128 parameter', 'crash_class_value_type', () =>
    exportingFunctionOf(v128),
  ),
  crashingCase('exports a function with an i31ref parameter', 'crash_class_value_type', () =>
    exportingFunctionOf(i31ref),
  ),
  crashingCase('exports a function with an exnref parameter', 'crash_class_value_type', () =>
    exportingFunctionOf(exnref),
  ),
  crashingCase('exports a function with a nullfuncref parameter', 'crash_class_value_type', () =>
    exportingFunctionOf(nullfuncref),
  ),
  crashingCase('exports a function with a nullexternref parameter', 'crash_class_value_type', () =>
    exportingFunctionOf(nullexternref),
  ),
  crashingCase('exports a function with a reference to a struct', 'crash_class_value_type', () =>
    exportingFunctionOf(refToType0, [structType]),
  ),
  crashingCase('exports a function with a reference to a function type', 'crash_class_value_type', () =>
    exportingFunctionOf(refToType0, [functionType]),
  ),
  crashingCase('exports a v128 global', 'crash_class_value_type', () =>
    pluginModule({
      globals: [{ type: v128, initializer: zeroV128 }],
      exports: [{ name: 'global', kind: 'global', index: 0 }],
    }),
  ),
  crashingCase('exports an anyref global', 'crash_class_value_type', () =>
    pluginModule({
      globals: [{ type: anyref, initializer: nullAny }],
      exports: [{ name: 'global', kind: 'global', index: 0 }],
    }),
  ),
  crashingCase('exports a table of anyref', 'crash_class_value_type', () =>
    exportingTable(anyref, undefined, false),
  ),
  crashingCase('exports a table of references to a function type', 'crash_class_value_type', () =>
    exportingTable(refToType0, undefined, false),
  ),
  crashingCase('imports a table with a maximum of 2^31', 'crash_class_table_limit', () =>
    importing({ module: 'env', name: 'table', kind: 'table', element: funcref, min: 1, max: 2 ** 31 }),
  ),
  crashingCase('exports a table with a maximum of 2^32 - 1', 'crash_class_table_limit', () =>
    exportingTable(funcref, 2 ** 32 - 1, false),
  ),
  crashingCase('exports a 64-bit table with a maximum of 2^40', 'crash_class_table_limit', () =>
    exportingTable(funcref, 2 ** 40, true),
  ),
  ...['0', '42', '4294967294', '\0', 'name\0'].map((name) =>
    crashingCase(`exports a function as ${JSON.stringify(name)}`, 'crash_class_export_name', () =>
      pluginModule({ functions: [exported(name, [], [])] }),
    ),
  ),
  ...['0', 'name\0'].map((name) =>
    crashingCase(`exports its memory as ${JSON.stringify(name)}`, 'crash_class_export_name', () =>
      pluginModule({ exports: [{ name, kind: 'memory', index: 0 }] }),
    ),
  ),
  crashingCase('logs without any memory', 'crash_class_no_memory', () =>
    pluginModule({
      memories: [],
      exportsMemory: false,
      imports: [importedLog],
      functions: [exported('proxy_on_configure', [i32, i32], [i32], [...callLog, 0x41, 1])],
    }),
  ),
  crashingCase('logs with a memory that is not exported', 'crash_class_no_memory', () =>
    pluginModule({
      exportsMemory: false,
      imports: [importedLog],
      functions: [exported('proxy_on_configure', [i32, i32], [i32], [...callLog, 0x41, 1])],
    }),
  ),
  crashingCase('logs in its start section', 'crash_class_start_hostcall', () =>
    starting(importedLog, callLog),
  ),
  crashingCase('asks for the sizes of its arguments in its start section', 'crash_class_start_hostcall', () =>
    starting(importedFunction(wasi, 'args_sizes_get', [i32, i32], [i32]), [0x41, 0, 0x41, 0, 0x10, 0, 0x1a]),
  ),
  crashingCase('exits in its start section', 'crash_class_start_hostcall', () =>
    starting(importedFunction(wasi, 'proc_exit', [i32], []), [0x41, 0, 0x10, 0]),
  ),
  crashingCase(
    'logs in its start section after instructions of each kind',
    'crash_class_start_hostcall',
    () =>
      pluginModule({
        imports: [importedLog],
        tables: [{ element: funcref, min: 1 }],
        start: firstAddedFunction(1),
        functions: [{ type: nothing, locals: [i32], body: [...manyInstructions.flat(), ...callLog] }],
        // Exported, so that code may refer to it.
        exports: [{ name: 'log', kind: 'function', index: 0 }],
      }),
  ),
  crashingCase(
    'clears the done flag in its start section, three calls deep',
    'crash_class_start_hostcall',
    () => {
      const first = firstAddedFunction(1);
      return pluginModule({
        imports: [importedFunction('env', 'proxy_done', [], [i32])],
        start: first,
        functions: [
          // A condition that is not met stands before the call.
          inner([], [], [0x41, 0, 0x04, 0x40, 0x01, 0x0b, 0x10, first + 1]),
          inner([], [], [0x02, 0x40, 0x10, first + 2, 0x0b]),
          inner([], [], [0x10, 0, 0x1a]),
        ],
      });
    },
  ),
];
