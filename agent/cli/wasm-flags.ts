import type { FlagDefinition } from '../config/flags.ts';

/** Of `wasm status`. */
export const wasmStatusFlags = [
  { name: 'json', type: 'boolean', default: 'false', meaning: 'Print what the agent says as JSON.' },
  {
    name: 'status-port',
    type: 'integer',
    default: '15020',
    meaning: 'Status port of the agent on this machine (statusPort of ProxyConfig).',
  },
] as const satisfies readonly FlagDefinition[];
