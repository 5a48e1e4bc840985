/** Traffic recorded between a real istiod and a real agent: one JSON object a line, see `captures/README.md` there. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  decodeResponse,
  type Resource,
  type XdsMode,
} from '../../support/control-plane/discovery-messages.ts';

/** The Wasm filter of a recorded ECDS resource, as the recorder decoded it. */
export interface RecordedWasm {
  readonly name: string;
  readonly failure_policy: number;
  readonly configuration: { readonly value?: string } | null;
  readonly remote?: { readonly uri: string; readonly sha256: string };
}

/** One message between agent and istiod. */
export interface RecordedMessage {
  readonly kind: 'request' | 'response';
  /** Line number in the file. */
  readonly line: number;
  /** TCP connection: a new one is a new stream. */
  readonly connection: number;
  readonly typeUrl: string;
  readonly version: string;
  readonly nonce: string;
  readonly resources: readonly Resource[];
  /** Beside each resource: its Wasm filter, where it is one. */
  readonly wasm: readonly (RecordedWasm | undefined)[];
  readonly bytes: Buffer;
}

/** What the recorder's run did next, or what it saw. */
export interface RecordedMark {
  readonly kind: 'mark';
  readonly line: number;
  readonly text: string;
}

interface CaptureLine {
  readonly kind: string;
  readonly leg?: string;
  readonly dir?: string;
  readonly conn?: number;
  readonly type_url?: string;
  readonly version?: string;
  readonly nonce?: string;
  readonly bytes?: string;
  readonly text?: string;
  readonly resources?: readonly {
    readonly name: string;
    readonly extension?: { readonly wasm?: RecordedWasm };
  }[];
}

const folder = fileURLToPath(new URL('../../../../shared/captures', import.meta.url));

/** Why tests on recordings are skipped; false when the recordings are there. */
export const skipWithoutCaptures = existsSync(folder)
  ? false
  : 'the recordings of a real istiod are not part of the repository and not on this machine';

/** The messages between agent and istiod on ADS streams, and the marks between them. */
export function readCapture(name: string, mode: XdsMode): (RecordedMessage | RecordedMark)[] {
  const lines = readFileSync(join(folder, `${name}.${mode}.jsonl`), 'utf8')
    .trimEnd()
    .split('\n');
  return lines.flatMap((text, index): (RecordedMessage | RecordedMark)[] => {
    const record = JSON.parse(text) as CaptureLine;
    const line = index + 1;
    if (record.kind === 'mark') return [{ kind: 'mark', line, text: record.text ?? '' }];
    if (record.kind !== 'message' || record.leg !== 'istiod' || record.type_url === undefined) return [];
    const bytes = Buffer.from(record.bytes ?? '', 'base64');
    const isResponse = record.dir === 'istiod>agent';
    const names = record.resources ?? [];
    return [
      {
        kind: isResponse ? 'response' : 'request',
        line,
        connection: record.conn ?? 0,
        typeUrl: record.type_url,
        version: record.version ?? '',
        nonce: record.nonce ?? '',
        // A state-of-the-world response has no names beside its resources; the recorder found them inside.
        resources: isResponse
          ? decodeResponse(mode, bytes).resources.map((resource, at) => ({
              ...resource,
              name: names[at]?.name ?? '',
            }))
          : [],
        wasm: names.map((resource) => resource.extension?.wasm),
        bytes,
      },
    ];
  });
}
