import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import type { Sha256 } from '../../cache/types.ts';
import type { WasmConfig } from '../config/agent-config.ts';
import { describeError } from '../log.ts';
import type { Policy } from '../policy/policy-data.ts';
import { readOperatorPolicy } from './operator-policy.ts';
import { flagText, type OperatorFlags, usageError } from './operator-run.ts';
import { readDuration, readWasmSettings } from './operator-settings.ts';

/** What the flags of a command that fetches say. */
export interface FetchInputs {
  /** The agent's, with the credentials of `--docker-config`. */
  readonly config: WasmConfig;
  readonly policy: Policy;
  /** Text of a docker config JSON. A secret. */
  readonly pullSecret: string | undefined;
  readonly pin: Sha256 | undefined;
  readonly timeoutMs: number;
}

/** A pull secret is small; a larger file is a mistake. */
const maxSecretBytes = 1024 * 1024;

/** Reads flags, environment and the files that they name. Throws CommandError. */
export async function readFetchInputs(flags: OperatorFlags): Promise<FetchInputs> {
  const settings = readWasmSettings();
  const dockerConfig = flagText(flags, 'docker-config');
  const policyPath = flagText(flags, 'policy') || (process.env['WASM_POLICY_FILE'] ?? '');
  const secretPath = flagText(flags, 'pull-secret');
  const registryCredentials =
    dockerConfig === ''
      ? settings.registryCredentials
      : { configPaths: [await dockerConfigPath(resolve(dockerConfig))], inlineConfig: undefined };
  return {
    config: { ...settings, registryCredentials },
    policy: await readOperatorPolicy(policyPath === '' ? undefined : resolve(policyPath)),
    pullSecret: secretPath === '' ? undefined : await readSecret(resolve(secretPath)),
    pin: readPin(flagText(flags, 'pin')),
    timeoutMs: readDuration(flags, 'timeout'),
  };
}

async function dockerConfigPath(path: string): Promise<string> {
  try {
    if (!(await stat(path)).isDirectory()) return path;
    const inside = join(path, 'config.json');
    await stat(inside);
    return inside;
  } catch (error) {
    throw usageError(`--docker-config: ${describeError(error)}; name a docker config JSON or its folder`);
  }
}

async function readSecret(path: string): Promise<string> {
  try {
    // It may be a pipe, as `<(kubectl get secret ...)` makes it.
    const text = await textOf(createReadStream(path, { end: maxSecretBytes }));
    if (text.length > maxSecretBytes) throw new Error(`${path} has more than ${maxSecretBytes} bytes`);
    return text;
  } catch (error) {
    throw usageError(
      `--pull-secret: ${describeError(error)}; name a file with a docker config JSON (.dockerconfigjson of the secret)`,
    );
  }
}

function readPin(text: string): Sha256 | undefined {
  if (text === '') return undefined;
  const [, hex] = /^(?:sha256:)?([0-9a-f]{64})$/.exec(text) ?? [];
  if (hex !== undefined) return hex;
  throw usageError(
    `--pin: ${JSON.stringify(text.slice(0, 100))} is no digest; write sha256: and 64 lower-case hex digits`,
  );
}
