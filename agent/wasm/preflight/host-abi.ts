/** Versions of the proxy-wasm ABI that Envoy knows by the export `proxy_abi_version_<version>`. */
export type AbiVersion = '0_1_0' | '0_2_0' | '0_2_1';

/** What a host function takes for granted; without it the process is gone, not only the plugin. */
export type HostNeed =
  /** Works at any time. */
  | 'nothing'
  /** A context: there is none while the start section runs. */
  | 'context'
  /** A context, and the module's memory to read from or write to. */
  | 'memory';

export interface HostFunction {
  /** Exact signature, as in `FunctionType.text`. */
  readonly type: string;
  readonly needs: HostNeed;
  /** Set when only newer hosts have it: what an operator must have. */
  readonly since: string | undefined;
}

/** The first of these that is exported as a function decides. Source: src/bytecode_util.cc, getAbiVersion. */
export const abiVersionExports: ReadonlyMap<string, AbiVersion> = new Map([
  ['proxy_abi_version_0_1_0', '0_1_0'],
  ['proxy_abi_version_0_2_0', '0_2_0'],
  ['proxy_abi_version_0_2_1', '0_2_1'],
]);

/** What the names of ABI version exports begin with, known versions and others. */
export const abiVersionPrefix = 'proxy_abi_version_';

/** `name signature needs`: i is i32, I is i64, what follows `:` is the result. */
type Row = `${string} ${string}:${string} ${HostNeed}`;

/**
 * `env` for every ABI version. Source: proxy-wasm-cpp-host, include/proxy-wasm/exports.h (FOR_ALL_HOST_FUNCTIONS and
 * the declarations), src/wasm.cc (WasmBase::registerCallbacks) and, for what each needs, src/exports.cc;
 * `envoy_resolve_dns` is from envoy, source/extensions/common/wasm/wasm.cc.
 */
const envRows: readonly Row[] = [
  'proxy_log iii:i memory',
  'proxy_get_status iii:i memory',
  'proxy_set_property iiii:i memory',
  'proxy_get_property iiii:i memory',
  'proxy_send_local_response iiiiiiii:i memory',
  'proxy_get_shared_data iiiii:i memory',
  'proxy_set_shared_data iiiii:i memory',
  'proxy_register_shared_queue iii:i memory',
  'proxy_resolve_shared_queue iiiii:i memory',
  'proxy_dequeue_shared_queue iii:i memory',
  'proxy_enqueue_shared_queue iii:i memory',
  'proxy_get_header_map_value iiiii:i memory',
  'proxy_add_header_map_value iiiii:i memory',
  'proxy_replace_header_map_value iiiii:i memory',
  'proxy_remove_header_map_value iii:i memory',
  'proxy_get_header_map_pairs iii:i memory',
  'proxy_set_header_map_pairs iii:i memory',
  'proxy_get_header_map_size ii:i memory',
  'proxy_get_buffer_status iii:i memory',
  'proxy_get_buffer_bytes iiiii:i memory',
  'proxy_set_buffer_bytes iiiii:i memory',
  'proxy_http_call iiiiiiiiii:i memory',
  'proxy_grpc_call iiiiiiiiiiii:i memory',
  'proxy_grpc_stream iiiiiiiii:i memory',
  'proxy_grpc_close i:i context',
  'proxy_grpc_cancel i:i context',
  'proxy_grpc_send iiii:i memory',
  'proxy_set_tick_period_milliseconds i:i context',
  'proxy_get_current_time_nanoseconds i:i memory',
  'proxy_define_metric iiii:i memory',
  'proxy_increment_metric iI:i context',
  'proxy_record_metric iI:i context',
  'proxy_get_metric ii:i memory',
  'proxy_set_effective_context i:i context',
  'proxy_done :i context',
  'proxy_call_foreign_function iiiiii:i memory',
  'envoy_resolve_dns iii:i memory',
  'pthread_equal ii:i nothing',
  'emscripten_notify_memory_growth i: nothing',
];

/** `env` beyond that, by ABI version. Source: src/wasm.cc, WasmBase::registerCallbacks. */
const envRowsByAbi: Readonly<Record<AbiVersion, readonly Row[]>> = {
  '0_1_0': [
    'proxy_get_configuration ii:i memory',
    'proxy_continue_request :i context',
    'proxy_continue_response :i context',
    'proxy_clear_route_cache :i context',
  ],
  '0_2_0': ['proxy_continue_stream i:i context', 'proxy_close_stream i:i context'],
  '0_2_1': [
    'proxy_continue_stream i:i context',
    'proxy_close_stream i:i context',
    'proxy_get_log_level i:i memory',
  ],
};

/** The module names under which Envoy offers WASI: the same functions under both. */
const wasiModules = ['wasi_unstable', 'wasi_snapshot_preview1'] as const;

/** WASI in every Envoy that Ferry runs beside. Source: include/proxy-wasm/exports.h, FOR_ALL_WASI_FUNCTIONS. */
const wasiRows: readonly Row[] = [
  'fd_write iiii:i memory',
  'fd_read iiii:i nothing',
  'fd_seek iIii:i context',
  'fd_close i:i context',
  'fd_fdstat_get ii:i memory',
  'fd_prestat_get ii:i nothing',
  'fd_prestat_dir_name iii:i nothing',
  'path_open iiiiiIIii:i nothing',
  'environ_get ii:i memory',
  'environ_sizes_get ii:i memory',
  'args_get ii:i nothing',
  'args_sizes_get ii:i memory',
  'clock_time_get iIi:i memory',
  'random_get ii:i memory',
  'proc_exit i: context',
];

/** Added for the Go SDK. Source: proxy-wasm-cpp-host c4d7bb0; the Go SDK's README names Envoy 1.33. */
const wasiRowsOf2024: readonly Row[] = [
  'fd_fdstat_set_flags ii:i nothing',
  'sched_yield :i nothing',
  'poll_oneoff iiii:i memory',
];

/**
 * Added for newer Go. `path_link` and `path_symlink` lack a parameter that WASI gives them: a module that imports them
 * as WASI has them does not link. Source: proxy-wasm-cpp-host 94091cd; Envoy 1.36 has none of them, 1.40 has all.
 */
const wasiRowsOf2026: readonly Row[] = [
  'clock_res_get ii:i memory',
  'fd_advise iIIi:i nothing',
  'fd_allocate iII:i nothing',
  'fd_datasync i:i nothing',
  'fd_fdstat_set_rights iII:i nothing',
  'fd_filestat_get ii:i nothing',
  'fd_filestat_set_size iI:i nothing',
  'fd_filestat_set_times iIIi:i nothing',
  'fd_pread iiiIi:i nothing',
  'fd_pwrite iiiIi:i memory',
  'fd_readdir iiiIi:i memory',
  'fd_renumber ii:i nothing',
  'fd_sync i:i nothing',
  'fd_tell ii:i memory',
  'path_create_directory iii:i nothing',
  'path_filestat_get iiiii:i nothing',
  'path_filestat_set_times iiiiIIi:i nothing',
  'path_link iiiiii:i nothing',
  'path_readlink iiiiii:i memory',
  'path_remove_directory iii:i nothing',
  'path_rename iiiiii:i nothing',
  'path_symlink iiii:i nothing',
  'path_unlink_file iii:i nothing',
  'sock_accept iii:i memory',
  'sock_recv iiiiii:i memory',
  'sock_send iiiii:i memory',
  'sock_shutdown ii:i nothing',
];

/** `name signature` of the exports that are looked up whatever the ABI version. */
type ExportRow = `${string} ${string}:${string}`;

/**
 * Callbacks that Envoy looks up. Source: include/proxy-wasm/wasm.h (FOR_ALL_MODULE_FUNCTIONS and the members' types)
 * and src/wasm.cc (WasmBase::getFunctions); the two of Envoy's own are from source/extensions/common/wasm/wasm.cc.
 */
const callbackRows: readonly ExportRow[] = [
  'proxy_validate_configuration ii:i',
  'proxy_on_vm_start ii:i',
  'proxy_on_configure ii:i',
  'proxy_on_tick i:',
  'proxy_on_context_create ii:',
  'proxy_on_new_connection i:i',
  'proxy_on_downstream_data iii:i',
  'proxy_on_upstream_data iii:i',
  'proxy_on_downstream_connection_close ii:',
  'proxy_on_upstream_connection_close ii:',
  'proxy_on_request_body iii:i',
  'proxy_on_request_trailers ii:i',
  'proxy_on_request_metadata ii:i',
  'proxy_on_response_body iii:i',
  'proxy_on_response_trailers ii:i',
  'proxy_on_response_metadata ii:i',
  'proxy_on_http_call_response iiiii:',
  'proxy_on_grpc_receive iii:',
  'proxy_on_grpc_close iii:',
  'proxy_on_grpc_receive_initial_metadata iii:',
  'proxy_on_grpc_receive_trailing_metadata iii:',
  'proxy_on_queue_ready ii:',
  'proxy_on_done i:i',
  'proxy_on_log i:',
  'proxy_on_delete i:',
  'envoy_on_resolve_dns iii:',
  'envoy_on_stats_update ii:',
];

/** Callbacks whose signature, or being looked up at all, depends on the ABI version. */
const callbackRowsByAbi: Readonly<Record<AbiVersion, readonly ExportRow[]>> = {
  '0_1_0': ['proxy_on_request_headers ii:i', 'proxy_on_response_headers ii:i'],
  '0_2_0': [
    'proxy_on_request_headers iii:i',
    'proxy_on_response_headers iii:i',
    'proxy_on_foreign_function iii:',
  ],
  '0_2_1': [
    'proxy_on_request_headers iii:i',
    'proxy_on_response_headers iii:i',
    'proxy_on_foreign_function iii:',
  ],
};

const sinceGoSdk = 'Envoy 1.33 (proxy-wasm-cpp-host of December 2024)';
const sinceAllWasi = 'an Envoy with proxy-wasm-cpp-host of April 2026 or later (1.40 has it, 1.36 has not)';

/** Made when they are asked for: a pod's modules are mostly of one version. */
const hostTables = new Map<AbiVersion, ReadonlyMap<string, HostFunction>>();

/** The host function behind `module.name` for modules of this ABI version; undefined when Envoy has none. */
export function hostFunction(abi: AbiVersion, module: string, name: string): HostFunction | undefined {
  return allHostFunctions(abi).get(`${module}.${name}`);
}

/** Every host function for modules of this ABI version, by `module.name`. */
export function allHostFunctions(abi: AbiVersion): ReadonlyMap<string, HostFunction> {
  const table = hostTables.get(abi) ?? hostTable(abi);
  hostTables.set(abi, table);
  return table;
}

/** ABI versions under which Envoy does offer `module.name`. */
export function abiVersionsWith(module: string, name: string): readonly AbiVersion[] {
  return [...abiVersionExports.values()].filter((abi) => allHostFunctions(abi).has(`${module}.${name}`));
}

/**
 * The exact signatures of the exports that Envoy looks up in a module with these function exports; it takes none of
 * them amiss when it is missing, the allocator aside. Source: src/wasm.cc, WasmBase::getFunctions.
 */
export function lookedUpExports(
  abi: AbiVersion,
  isExported: (name: string) => boolean,
): ReadonlyMap<string, string> {
  const entry = isExported('_initialize') ? entryRows.reactor : entryRows.command;
  const allocator = isExported('malloc') ? allocatorRows.malloc : allocatorRows.onMemoryAllocate;
  const rows = [...entry, allocator, ...callbackRows, ...callbackRowsByAbi[abi]];
  return new Map(
    rows.map((row) => {
      const [name, type] = splitRow(row);
      return [name, type];
    }),
  );
}

/** The names that can serve as the allocator, the preferred one first. */
export const allocatorExports = ['malloc', 'proxy_on_memory_allocate'] as const;

const entryRows: Readonly<Record<'reactor' | 'command', readonly ExportRow[]>> = {
  reactor: ['_initialize :', 'main ii:i', '__main_void :i'],
  command: ['_start :'],
};

const allocatorRows = {
  malloc: 'malloc i:i',
  onMemoryAllocate: 'proxy_on_memory_allocate i:i',
} as const satisfies Record<string, ExportRow>;

function hostTable(abi: AbiVersion): ReadonlyMap<string, HostFunction> {
  const table = new Map<string, HostFunction>();
  const add = (module: string, rows: readonly Row[], since: string | undefined): void => {
    for (const row of rows) {
      const [name, type, needs] = splitRow(row);
      table.set(`${module}.${name}`, { type, needs: needs as HostNeed, since });
    }
  };
  add('env', envRows, undefined);
  add('env', envRowsByAbi[abi], undefined);
  for (const module of wasiModules) {
    add(module, wasiRows, undefined);
    add(module, wasiRowsOf2024, sinceGoSdk);
    add(module, wasiRowsOf2026, sinceAllWasi);
  }
  return table;
}

/** Name, signature in words, and what else the row says. */
function splitRow(row: string): readonly [name: string, type: string, rest: string] {
  const [name = '', signature = '', rest = ''] = row.split(' ');
  const [params = '', results = ''] = signature.split(':');
  return [name, `${spellTypes(params)} -> ${spellTypes(results)}`, rest];
}

function spellTypes(letters: string): string {
  if (letters === '') return 'void';
  return letters
    .split('')
    .map((letter) => (letter === 'I' ? 'i64' : 'i32'))
    .join(' ');
}
