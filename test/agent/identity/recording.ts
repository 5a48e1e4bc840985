import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const path = fileURLToPath(
  new URL('../../../../shared/captures/g-secure-ca-sds.delta.jsonl', import.meta.url),
);

/** Why tests against recorded bytes must be skipped; false when they are there. */
export const recordingSkipReason = existsSync(path) ? false : `no recording of a stock agent in ${path}`;

/** One gRPC message as a real agent, CA or client of SDS sent it. */
export interface RecordedMessage {
  readonly dir: string;
  readonly conn: number;
  readonly stream: number;
  readonly method: string;
  readonly bytes: Buffer;
  readonly version: string;
  readonly nonce: string;
  readonly names: readonly string[];
}

/** The messages of one leg of the recording, in order. */
export function recordedMessages(leg: 'sds' | 'ca'): readonly RecordedMessage[] {
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
  return lines.flatMap((line) => {
    const record = JSON.parse(line) as Record<string, unknown>;
    const isOfCa = String(record['method']).endsWith('/CreateCertificate');
    const isWanted = leg === 'ca' ? isOfCa : record['leg'] === 'sds';
    if (record['kind'] !== 'message' || !isWanted) return [];
    return {
      dir: String(record['dir']),
      conn: Number(record['conn']),
      stream: Number(record['stream']),
      method: String(record['method']),
      bytes: Buffer.from(String(record['bytes']), 'base64'),
      version: String(record['version']),
      nonce: String(record['nonce']),
      names: (record['resource_names'] ?? []) as readonly string[],
    };
  });
}
