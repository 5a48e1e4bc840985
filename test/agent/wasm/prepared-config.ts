import type { PreparedConfig, ResponseShell } from '../../../agent/wasm/rollout.ts';

/** Of a response of this version with nothing else in it. */
export function responseShell(version: string): ResponseShell {
  return { kind: 'sotw', version, fields: new Uint8Array() };
}

const envelope = { response: responseShell('v'), wrapper: undefined };

/** A config that is ready for Envoy, with a text for its bytes. */
export function preparedConfig(text: string): PreparedConfig {
  return { bytes: Buffer.from(text), envelope, moduleDigest: undefined, module: undefined };
}
