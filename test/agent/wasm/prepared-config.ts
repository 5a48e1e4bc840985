import type { PreparedConfig } from '../../../agent/wasm/rollout.ts';
import { makeResponse } from '../../../proto/codec.ts';

const envelope = { version: 'v', response: makeResponse({}), wrapper: undefined };

/** A config that is ready for Envoy, with a text for its bytes. */
export function preparedConfig(text: string): PreparedConfig {
  return { bytes: Buffer.from(text), envelope, moduleDigest: undefined, module: undefined };
}
