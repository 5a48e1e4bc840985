import { customSection, section, text, unsigned } from './encoding.ts';
import { pluginOfAbi } from './host-abi-modules.ts';
import { anyref, exnref, externref, funcref, functionNames, i32, i64, v128 } from './module-builder.ts';
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
import { acceptedCase, type PreflightCase } from './preflight-case.ts';

const wasi = 'wasi_snapshot_preview1';
const nothing = signature([], []);

const shapes: readonly PreflightCase[] = [
  acceptedCase('is the smallest plugin', () => pluginModule()),
  acceptedCase('logs when it is configured', () =>
    pluginModule({
      imports: [importedLog],
      functions: [exported('proxy_on_configure', [i32, i32], [i32], [...callLog, 0x41, 1])],
    }),
  ),
  acceptedCase('exports its ABI version with a signature of its own', () =>
    pluginModule({ functions: [exported('proxy_abi_version_0_2_1', [i32], [i32])] }),
  ),
  acceptedCase(
    'exports two ABI versions and imports from the first',
    () =>
      pluginModule({
        imports: [importedFunction('env', 'proxy_close_stream', [i32], [i32])],
        functions: [exported('proxy_abi_version_0_1_0', [], [])],
      }),
    ['several_abi_versions'],
  ),
  acceptedCase('has a mistyped proxy_on_memory_allocate beside malloc', () =>
    pluginModule({ functions: [exported('proxy_on_memory_allocate', [i64], [])] }),
  ),
  acceptedCase('has a mistyped _start beside _initialize', () =>
    pluginModule({ functions: [exported('_initialize', [], []), exported('_start', [], [i32])] }),
  ),
  acceptedCase('has a mistyped main and no _initialize', () =>
    pluginModule({ functions: [exported('main', [], [i32])] }),
  ),
  acceptedCase('has a mistyped proxy_on_foreign_function in ABI 0.1.0', () =>
    pluginOfAbi('0_1_0', {
      functions: [exported('malloc', [i32], [i32]), exported('proxy_on_foreign_function', [], [])],
    }),
  ),
  acceptedCase('exports a callback that Envoy does not know', () =>
    pluginModule({ functions: [exported('proxy_on_grpc_create_initial_metadata', [i64], [])] }),
  ),
  acceptedCase('exports a function with references that V8 can name', () =>
    pluginModule({
      functions: [
        exported('border', [externref, funcref, [0x64, 0x70], [0x64, 0x6f]], [i32, i32], [0x41, 0, 0x41, 0]),
      ],
    }),
  ),
  acceptedCase('exports functions under strange names', () =>
    pluginModule({
      functions: ['', 'a\0b', '00', '-1', '1.0', '4294967295', '__proto__', 'toString', '\ufeff', '😀'].map(
        (name) => exported(name, [], []),
      ),
    }),
  ),
  acceptedCase('exports a global and a table under the names of numbers', () =>
    pluginModule({
      globals: [{ type: i32, initializer: [0x41, 0] }],
      tables: [{ element: funcref, min: 1 }],
      exports: [
        { name: '0', kind: 'global', index: 0 },
        { name: '1', kind: 'table', index: 0 },
      ],
    }),
  ),
  acceptedCase('imports one host function three times', () =>
    pluginModule({ imports: [importedLog, importedLog, importedLog] }),
  ),
  acceptedCase('exports a global', () =>
    pluginModule({
      globals: [{ type: i32, initializer: [0x41, 0x80, 0x01] }],
      exports: [{ name: 'global', kind: 'global', index: 0 }],
    }),
  ),
  acceptedCase('keeps tags, v128 and exnref to itself', () =>
    pluginModule({ tags: [nothing], functions: [inner([v128, exnref], [])] }),
  ),
  acceptedCase('has types of garbage collection, grouped and derived', () =>
    pluginModule({
      leadingTypes: [
        [0x4e, 1, 0x5f, 1, 0x7f, 0],
        [0x50, 0, 0x5f, 0],
        [0x4f, 1, 1, 0x5f, 0],
        [0x5e, 0x78, 1],
      ],
      functions: [
        inner(
          [
            [0x63, 2],
            [0x64, 0x6b],
          ],
          [],
        ),
      ],
    }),
  ),
  acceptedCase('has globals with initializers of several instructions', () =>
    pluginModule({
      globals: [
        { type: i32, initializer: [0x41, 1, 0x41, 2, 0x6a] },
        { type: v128, initializer: [0xfd, 12, ...Array.from({ length: 16 }, () => 0x0b)] },
        { type: funcref, initializer: [0xd2, 0] },
        { type: anyref, initializer: [0x41, 7, 0xfb, 28] },
      ],
    }),
  ),
];

const memoriesAndTables: readonly PreflightCase[] = [
  acceptedCase('has a memory of 16,384 pages', () => pluginModule({ memories: [{ min: 16_384 }] })),
  acceptedCase('has a memory with a maximum of 4 GiB', () =>
    pluginModule({ memories: [{ min: 1, max: 65_536 }] }),
  ),
  acceptedCase('has a 64-bit memory', () => pluginModule({ memories: [{ min: 1, is64: true }] })),
  acceptedCase('has a shared memory', () => pluginModule({ memories: [{ min: 1, max: 2, isShared: true }] })),
  acceptedCase('has two memories', () => pluginModule({ memories: [{ min: 1 }, { min: 1 }] })),
  acceptedCase('imports its memory', () =>
    pluginModule({
      memories: [],
      exportsMemory: false,
      imports: [importedLog, { module: 'any', name: 'name', kind: 'memory', min: 1, max: 65_536 }],
      functions: [exported('proxy_on_configure', [i32, i32], [i32], [...callLog, 0x41, 1])],
    }),
  ),
  acceptedCase('imports a memory and has one of its own', () =>
    pluginModule({ imports: [{ module: 'env', name: 'memory', kind: 'memory', min: 1 }] }),
  ),
  acceptedCase('exports its memory under another name', () =>
    pluginModule({
      exportsMemory: false,
      imports: [importedLog],
      exports: [{ name: 'heap', kind: 'memory', index: 0 }],
      functions: [exported('proxy_on_configure', [i32, i32], [i32], [...callLog, 0x41, 1])],
    }),
  ),
  acceptedCase(
    'has no memory and asks for none',
    () => pluginModule({ memories: [], exportsMemory: false }),
    ['no_memory'],
  ),
  acceptedCase('imports a table', () =>
    pluginModule({
      imports: [{ module: 'env', name: 'table', kind: 'table', element: funcref, min: 1, max: 100 }],
    }),
  ),
  acceptedCase('imports a table of externref', () =>
    pluginModule({ imports: [{ module: 'env', name: 'table', kind: 'table', element: externref, min: 1 }] }),
  ),
  acceptedCase('exports a table with a maximum below 2^31', () =>
    pluginModule({
      tables: [{ element: funcref, min: 1, max: 2 ** 31 - 1 }],
      exports: [{ name: 'table', kind: 'table', index: 0 }],
    }),
  ),
  acceptedCase('keeps a table with a large maximum to itself', () =>
    pluginModule({ tables: [{ element: funcref, min: 1, max: 2 ** 32 - 1 }] }),
  ),
];

const customSections: readonly PreflightCase[] = [
  acceptedCase('has names of functions', () =>
    pluginModule({
      trailingSections: [
        functionNames([
          [0, 'first'],
          [1, 'second'],
        ]),
      ],
    }),
  ),
  acceptedCase('has names of functions that are not UTF-8, and the same one twice', () =>
    pluginModule({
      trailingSections: [customSection('name', section(1, [2, 1, 2, 0xff, 0xfe, 1, 1, 97]))],
    }),
  ),
  acceptedCase('has garbage in a name subsection that Envoy skips', () =>
    pluginModule({ trailingSections: [customSection('name', section(2, [9, 9, 9]))] }),
  ),
  acceptedCase('has a bad name section after a good one', () =>
    pluginModule({
      trailingSections: [functionNames([[0, 'first']]), customSection('name', section(1, [5, 0, 1, 97]))],
    }),
  ),
  acceptedCase('has an empty name section', () =>
    pluginModule({ trailingSections: [customSection('name', [])] }),
  ),
  acceptedCase('has precompiled code of another V8', () =>
    pluginModule({ trailingSections: [customSection('precompiled_wee8_v0', [1, 2, 3])] }),
  ),
  acceptedCase('has a custom section of 200,000 bytes with a name of 100,001', () =>
    pluginModule({
      trailingSections: [
        customSection(
          'n'.repeat(100_001),
          Array.from({ length: 99_990 }, () => 0xff),
        ),
      ],
    }),
  ),
  acceptedCase('has sizes in more bytes than they need', () =>
    // Custom section 0, size 3 in five bytes, then the name `ab`.
    pluginModule({ trailingSections: [[0, 0x83, 0x80, 0x80, 0x80, 0x00, ...text('ab')]] }),
  ),
];

const startSections: readonly PreflightCase[] = [
  acceptedCase('has a start section that calls nothing', () =>
    pluginModule({ start: firstAddedFunction(0), functions: [inner([], [], [0x01])] }),
  ),
  acceptedCase('has a start section beside imports that it does not call', () =>
    pluginModule({
      imports: [importedLog],
      start: firstAddedFunction(1),
      functions: [inner([], [], [0x01])],
    }),
  ),
  acceptedCase(
    'calls a host function that needs no context in its start section',
    () =>
      pluginModule({
        imports: [importedFunction(wasi, 'sched_yield', [], [i32])],
        start: firstAddedFunction(1),
        functions: [inner([], [], [0x10, 0, 0x1a])],
      }),
    ['needs_newer_host'],
  ),
  acceptedCase(
    'would log in its start section on a condition that is not met',
    () =>
      pluginModule({
        imports: [importedLog],
        start: firstAddedFunction(1),
        functions: [inner([], [], [0x41, 0, 0x04, 0x40, ...callLog, 0x0b])],
      }),
    ['start_may_call_host'],
  ),
  acceptedCase(
    'returns from its start section before it would log',
    () =>
      pluginModule({
        imports: [importedLog],
        start: firstAddedFunction(1),
        functions: [inner([], [], [0x41, 1, 0x0d, 0, ...callLog])],
      }),
    ['start_may_call_host'],
  ),
  acceptedCase(
    'calls through a table in its start section',
    () =>
      pluginModule({
        imports: [importedLog],
        start: firstAddedFunction(1),
        tables: [{ element: funcref, min: 1 }],
        functions: [
          // The condition keeps it from the empty table's trap.
          inner([], [], [0x41, 0, 0x04, 0x40, 0x41, 0, 0x11, ...unsigned(typeOfNothing), 0, 0x0b]),
        ],
      }),
    ['start_may_call_host'],
  ),
];

/** The type index of `() -> ()` in a plugin that imports `proxy_log`: it comes right after the import's. */
const typeOfNothing = 1;

/** Modules that Envoy loads, configures and would run. */
export const acceptedModules: readonly PreflightCase[] = [
  ...shapes,
  ...memoriesAndTables,
  ...customSections,
  ...startSections,
];
