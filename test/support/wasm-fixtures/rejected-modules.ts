import { type Bytes, customSection, moduleHeader } from './encoding.ts';
import {
  externref,
  f64,
  funcref,
  functionNames,
  type ImportDescription,
  i32,
  i64,
} from './module-builder.ts';
import { exported, firstAddedFunction, importedFunction, inner, pluginModule } from './plugin-module.ts';
import { type PreflightCase, rejectedCase } from './preflight-case.ts';

function importing(...imports: readonly ImportDescription[]): Uint8Array {
  return pluginModule({ imports });
}

/** The plugin with its own ABI version export replaced. */
function ofAbi(version: string, functions: Parameters<typeof pluginModule>[0] = {}): Uint8Array {
  const own = exported(`proxy_abi_version_${version}`, [], []);
  return pluginModule({
    ...functions,
    without: ['proxy_abi_version_0_2_1'],
    functions: [own, ...(functions.functions ?? [])],
  });
}

function withExport(name: string, params: readonly Bytes[], results: readonly Bytes[]): Uint8Array {
  return pluginModule({ functions: [exported(name, params, results)] });
}

function importedMemory(limits: { readonly min: number; readonly max?: number }): ImportDescription {
  return { module: 'env', name: 'memory', kind: 'memory', ...limits };
}

function importedTable(name: string): ImportDescription {
  return { module: 'env', name, kind: 'table', element: funcref, min: 1 };
}

const i32Global = { type: i32, initializer: [0x41, 0] } as const;

/** Modules that Envoy reads and refuses for what they import. */
const badImports: readonly PreflightCase[] = [
  rejectedCase('imports a function of no host', ['unknown_import'], () =>
    importing(importedFunction('env', 'nope', [i32], [])),
  ),
  rejectedCase('imports the abort of AssemblyScript', ['unknown_import'], () =>
    importing(importedFunction('env', 'abort', [i32, i32, i32, i32], [])),
  ),
  rejectedCase('imports a JavaScript string builtin', ['unknown_import'], () =>
    importing(importedFunction('wasm:js-string', 'length', [externref], [i32])),
  ),
  rejectedCase('imports a WASI function from env', ['unknown_import'], () =>
    importing(importedFunction('env', 'fd_write', [i32, i32, i32, i32], [i32])),
  ),
  rejectedCase('imports a function of ABI 0.1.0 into 0.2.1', ['unknown_import'], () =>
    importing(importedFunction('env', 'proxy_continue_request', [], [i32])),
  ),
  rejectedCase('imports a function of ABI 0.2.1 into 0.2.0', ['unknown_import'], () =>
    ofAbi('0_2_0', { imports: [importedFunction('env', 'proxy_get_log_level', [i32], [i32])] }),
  ),
  rejectedCase('imports a function of ABI 0.2.0 into 0.1.0', ['unknown_import'], () =>
    ofAbi('0_1_0', { imports: [importedFunction('env', 'proxy_close_stream', [i32], [i32])] }),
  ),
  rejectedCase('exports ABI 0.2.1 before 0.1.0 and imports from 0.1.0', ['unknown_import'], () =>
    pluginModule({
      imports: [importedFunction('env', 'proxy_continue_request', [], [i32])],
      functions: [exported('proxy_abi_version_0_1_0', [], [])],
    }),
  ),
  rejectedCase('imports a host function with a parameter less', ['mistyped_import'], () =>
    importing(importedFunction('env', 'proxy_log', [i32, i32], [i32])),
  ),
  rejectedCase('imports a host function without its result', ['mistyped_import'], () =>
    importing(importedFunction('env', 'proxy_log', [i32, i32, i32], [])),
  ),
  rejectedCase('imports a host function with an i64 for an i32', ['mistyped_import'], () =>
    importing(importedFunction('env', 'proxy_done', [], [i64])),
  ),
  rejectedCase('imports path_link as WASI has it', ['mistyped_import'], () =>
    importing(
      importedFunction('wasi_snapshot_preview1', 'path_link', [i32, i32, i32, i32, i32, i32, i32], [i32]),
    ),
  ),
  rejectedCase('imports a global', ['imported_global'], () =>
    importing({ module: 'env', name: '__memory_base', kind: 'global', type: i32 }),
  ),
  rejectedCase('imports two memories', ['several_imports_of_a_kind'], () =>
    pluginModule({
      memories: [],
      imports: [importedMemory({ min: 1 }), { module: 'env', name: 'second', kind: 'memory', min: 1 }],
    }),
  ),
  rejectedCase('imports two tables', ['several_imports_of_a_kind'], () =>
    importing(importedTable('first'), importedTable('second')),
  ),
  rejectedCase('imports a shared memory', ['unlinkable_import'], () =>
    pluginModule({
      memories: [],
      imports: [{ module: 'env', name: 'memory', kind: 'memory', min: 1, max: 2, isShared: true }],
    }),
  ),
  rejectedCase('imports a 64-bit memory', ['unlinkable_import'], () =>
    pluginModule({
      memories: [],
      imports: [{ module: 'env', name: 'memory', kind: 'memory', min: 1, is64: true }],
    }),
  ),
  rejectedCase('imports a 64-bit table', ['unlinkable_import'], () =>
    importing({ module: 'env', name: 'table', kind: 'table', element: funcref, min: 1, is64: true }),
  ),
  ...(
    [
      ['env', '0'],
      ['7', 'memory'],
      ['env', 'memory\0'],
      ['\0', 'memory'],
    ] as const
  ).map(([module, name]) =>
    rejectedCase(`imports its memory from ${JSON.stringify([module, name])}`, ['unlinkable_import'], () =>
      pluginModule({ memories: [], imports: [{ module, name, kind: 'memory', min: 1 }] }),
    ),
  ),
  rejectedCase('imports a table of references that are never null', ['unlinkable_import'], () =>
    importing({ module: 'env', name: 'table', kind: 'table', element: [0x64, 0x70], min: 1 }),
  ),
  rejectedCase('imports a table of the name of a number', ['unlinkable_import'], () =>
    importing(importedTable('7')),
  ),
  rejectedCase('imports a memory and a table under one name', ['unlinkable_import'], () =>
    pluginModule({ memories: [], imports: [importedMemory({ min: 1 }), importedTable('memory')] }),
  ),
  rejectedCase('imports a memory under the name of a host function', ['unlinkable_import'], () =>
    pluginModule({
      memories: [],
      imports: [
        importedFunction('env', 'proxy_done', [], [i32]),
        { module: 'env', name: 'proxy_done', kind: 'memory', min: 1 },
      ],
    }),
  ),
  rejectedCase('imports a table with a maximum that V8 does not make', ['table_over_limit'], () =>
    importing({ module: 'env', name: 'table', kind: 'table', element: funcref, min: 1, max: 10_000_001 }),
  ),
  rejectedCase('has an import for each of two mistakes', ['unknown_import', 'mistyped_import'], () =>
    importing(importedFunction('env', 'nope', [], []), importedFunction('env', 'proxy_done', [i32], [i32])),
  ),
];

/** Modules that Envoy reads and refuses for what they export, or for their size. */
const badExports: readonly PreflightCase[] = [
  rejectedCase('exports no ABI version', ['no_abi_export'], () =>
    pluginModule({ without: ['proxy_abi_version_0_2_1'] }),
  ),
  rejectedCase('exports an ABI version that Envoy does not know', ['no_abi_export'], () => ofAbi('0_3_0')),
  rejectedCase('exports its ABI version as a global', ['no_abi_export'], () =>
    pluginModule({
      without: ['proxy_abi_version_0_2_1'],
      globals: [i32Global],
      exports: [{ name: 'proxy_abi_version_0_2_1', kind: 'global', index: 0 }],
    }),
  ),
  rejectedCase('exports nothing', ['no_abi_export', 'no_allocator'], () => Uint8Array.from(moduleHeader)),
  rejectedCase('has no allocator', ['no_allocator'], () => pluginModule({ without: ['malloc'] })),
  rejectedCase('exports malloc as a global', ['no_allocator'], () =>
    pluginModule({
      without: ['malloc'],
      globals: [i32Global],
      exports: [{ name: 'malloc', kind: 'global', index: 0 }],
    }),
  ),
  rejectedCase('has a mistyped malloc beside a good proxy_on_memory_allocate', ['mistyped_export'], () =>
    pluginModule({
      functions: [exported('malloc', [i64], [i32]), exported('proxy_on_memory_allocate', [i32], [i32])],
    }),
  ),
  rejectedCase('has a mistyped proxy_on_memory_allocate for its allocator', ['mistyped_export'], () =>
    pluginModule({ without: ['malloc'], functions: [exported('proxy_on_memory_allocate', [i32], [])] }),
  ),
  rejectedCase('has two parameters of proxy_on_request_headers in 0.2.1', ['mistyped_export'], () =>
    withExport('proxy_on_request_headers', [i32, i32], [i32]),
  ),
  rejectedCase('has three parameters of proxy_on_request_headers in 0.1.0', ['mistyped_export'], () =>
    ofAbi('0_1_0', { functions: [exported('proxy_on_request_headers', [i32, i32, i32], [i32])] }),
  ),
  rejectedCase('has a mistyped _start', ['mistyped_export'], () => withExport('_start', [], [i32])),
  rejectedCase('has a mistyped _initialize', ['mistyped_export'], () => withExport('_initialize', [i32], [])),
  rejectedCase('has a mistyped main beside _initialize', ['mistyped_export'], () =>
    pluginModule({ functions: [exported('_initialize', [], []), exported('main', [], [i32])] }),
  ),
  rejectedCase('has a mistyped __main_void beside _initialize', ['mistyped_export'], () =>
    pluginModule({ functions: [exported('_initialize', [], []), exported('__main_void', [], [])] }),
  ),
  rejectedCase('takes a float where Envoy passes an integer', ['mistyped_export'], () =>
    withExport('proxy_on_tick', [f64], []),
  ),
  rejectedCase('has a start function with a parameter', ['mistyped_start'], () =>
    pluginModule({ start: firstAddedFunction(0), functions: [inner([i32], [])] }),
  ),
  rejectedCase('has a memory of 16,385 pages', ['memory_over_limit'], () =>
    pluginModule({ memories: [{ min: 16_385 }] }),
  ),
  rejectedCase('has a 64-bit memory of 16,385 pages', ['memory_over_limit'], () =>
    pluginModule({ memories: [{ min: 16_385, is64: true }] }),
  ),
  rejectedCase('has a second memory of 16,385 pages', ['memory_over_limit'], () =>
    pluginModule({ memories: [{ min: 1 }, { min: 16_385 }] }),
  ),
  rejectedCase('imports a memory of 16,385 pages', ['memory_over_limit'], () =>
    pluginModule({ memories: [], imports: [importedMemory({ min: 16_385 })] }),
  ),
  rejectedCase('has a memory with a maximum above 4 GiB', ['memory_over_limit'], () =>
    pluginModule({ memories: [{ min: 1, max: 65_537 }] }),
  ),
  rejectedCase('has a table of more elements than V8 takes', ['table_over_limit'], () =>
    pluginModule({ tables: [{ element: funcref, min: 10_000_001 }] }),
  ),
  rejectedCase('has a bad name section and nothing else wrong', ['malformed_name_section'], () =>
    pluginModule({ trailingSections: [customSection('name', [1]), functionNames([[0, 'first']])] }),
  ),
];

/** Modules that Envoy can read and refuses with an error. */
export const rejectedModules: readonly PreflightCase[] = [...badImports, ...badExports];

/** A start function is not run by us: this one traps, which only Envoy finds out. */
export const trappingModule = (): Uint8Array =>
  pluginModule({ start: firstAddedFunction(0), functions: [inner([], [], [0x00])] });
