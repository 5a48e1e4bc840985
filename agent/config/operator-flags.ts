/** Flags of the commands for operators, none of which the stock agent has. */
import type { FlagDefinition } from './flags.ts';

const jsonFlag = {
  name: 'json',
  type: 'boolean',
  default: 'false',
  meaning: 'Print JSON.',
} as const satisfies FlagDefinition;

const statusPortFlag = {
  name: 'status-port',
  type: 'integer',
  default: '15020',
  meaning: 'Status port of the agent on this machine (statusPort of ProxyConfig).',
} as const satisfies FlagDefinition;

const dataFolderFlag = {
  name: 'data-folder',
  type: 'text',
  default: '',
  meaning: 'Folder of the module cache. Empty: that of the agent (WASM_DATA_DIR).',
} as const satisfies FlagDefinition;

/** Of `wasm status`. */
export const wasmStatusFlags = [
  { ...jsonFlag, meaning: 'Print what the agent says as JSON.' },
  statusPortFlag,
] as const satisfies readonly FlagDefinition[];

const fetchFlags = [
  {
    name: 'docker-config',
    type: 'text',
    default: '',
    meaning:
      'Docker config JSON with registry credentials, or the folder of a config.json. Empty: what the agent uses.',
  },
  jsonFlag,
  {
    name: 'pin',
    type: 'text',
    default: '',
    meaning:
      'Digest that the module must have, as sha256:<hex>: of its index, manifest, layer, archive or file.',
  },
  {
    name: 'policy',
    type: 'text',
    default: '',
    meaning: 'Policy file to judge by. Empty: WASM_POLICY_FILE, where it is set.',
  },
  {
    name: 'pull-secret',
    type: 'text',
    default: '',
    meaning: "File with a pull secret (docker config JSON), as a plugin's imagePullSecret: used alone.",
  },
  {
    name: 'timeout',
    type: 'text',
    default: '30s',
    meaning: 'Time for the whole fetch, as 30s or 1m30s.',
  },
] as const satisfies readonly FlagDefinition[];

/** Of `wasm inspect`. */
export const wasmInspectFlags = [
  ...fetchFlags,
  {
    name: 'image',
    type: 'text',
    default: '',
    meaning: 'Which image of a layout folder: its name or its digest. Needed where there are several.',
  },
] as const satisfies readonly FlagDefinition[];

/** Of `wasm pull`. */
export const wasmPullFlags = [dataFolderFlag, ...fetchFlags] as const satisfies readonly FlagDefinition[];

const agentFlags = [
  {
    name: 'admin-port',
    type: 'integer',
    default: '15000',
    meaning: 'Admin port of Envoy, which is asked for the modules it runs. 0: it is not asked.',
  },
  {
    ...statusPortFlag,
    meaning: 'Status port of the agent, which is asked for the modules it needs. 0: it is not asked.',
  },
] as const satisfies readonly FlagDefinition[];

/** Of `cache ls`. */
export const cacheListFlags = [
  dataFolderFlag,
  jsonFlag,
  ...agentFlags,
] as const satisfies readonly FlagDefinition[];

/** Of `cache verify`. */
export const cacheVerifyFlags = [
  dataFolderFlag,
  jsonFlag,
  {
    name: 'repair',
    type: 'boolean',
    default: 'false',
    meaning: 'Delete damaged modules and left temporary files, and set damaged indexes aside.',
  },
] as const satisfies readonly FlagDefinition[];

/** Of `cache gc`. */
export const cacheCollectFlags = [
  dataFolderFlag,
  { name: 'dry-run', type: 'boolean', default: 'false', meaning: 'Only tell what would be deleted.' },
  jsonFlag,
  {
    name: 'unused-for',
    type: 'text',
    default: '',
    meaning:
      'Delete what nobody needs and nobody has used for so long, at least 15m. Empty: WASM_MODULE_EXPIRY.',
  },
  ...agentFlags,
] as const satisfies readonly FlagDefinition[];

/** Of `cache export`. */
export const cacheExportFlags = [dataFolderFlag, jsonFlag] as const satisfies readonly FlagDefinition[];

/** A command for operators, as it is called and documented. */
export interface OperatorCommand {
  readonly words: string;
  readonly flags: readonly FlagDefinition[];
}

/** All of them, in the order of the documentation. */
export const operatorCommands: readonly OperatorCommand[] = [
  { words: 'wasm status', flags: wasmStatusFlags },
  { words: 'wasm inspect', flags: wasmInspectFlags },
  { words: 'wasm pull', flags: wasmPullFlags },
  { words: 'cache ls', flags: cacheListFlags },
  { words: 'cache verify', flags: cacheVerifyFlags },
  { words: 'cache gc', flags: cacheCollectFlags },
  { words: 'cache export', flags: cacheExportFlags },
];
