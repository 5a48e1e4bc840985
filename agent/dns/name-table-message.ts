import { isUtf8 } from 'node:buffer';
import { readFields, WireFormatError } from '../../proto/wire.ts';
import { DnsError } from './dns-error.ts';

/** Type URL of the DNS table (NDS). */
export const nameTableTypeUrl = 'type.googleapis.com/istio.networking.nds.v1.NameTable';

/** What istiod says of one host. */
export interface NameInfo {
  readonly ips: readonly string[];
  /** `Kubernetes`, `External`, ... */
  readonly registry: string;
  readonly shortName: string;
  readonly namespace: string;
  /** Deprecated, but honoured. */
  readonly altHosts: readonly string[];
}

/** By host name, mostly without a dot at the end. */
export type NameTable = ReadonlyMap<string, NameInfo>;

const none: readonly string[] = [];

/** More hosts than any mesh shows one proxy; their names would take hundreds of MB. */
const maxHostCount = 200_000;

/**
 * Decodes `istio.networking.nds.v1.NameTable` (istio/istio `pkg/dns/proto/nds.proto`); unknown fields are skipped.
 * Throws WireFormatError, or DnsError `table` when there are too many hosts.
 */
export function decodeNameTable(message: Buffer): NameTable {
  const table = new Map<string, NameInfo>();
  const shared = new Map<string, string>();
  for (const field of readFields(message)) {
    if (field.number !== 1 || field.kind !== 'bytes') continue;
    const [host, info] = decodeEntry(field.value, shared);
    table.set(host, info);
    if (table.size > maxHostCount) {
      throw new DnsError(
        'table',
        `the name table has more than ${maxHostCount} hosts; limit what the proxy sees with a Sidecar resource`,
      );
    }
  }
  return table;
}

/** An entry of the map: key 1, value 2; the last of each counts (protobuf encoding guide, Maps). */
function decodeEntry(entry: Buffer, shared: Map<string, string>): readonly [string, NameInfo] {
  let host = '';
  let info: NameInfo = { ips: none, registry: '', shortName: '', namespace: '', altHosts: none };
  for (const field of readFields(entry)) {
    if (field.kind !== 'bytes') continue;
    if (field.number === 1) host = readText(field.value);
    else if (field.number === 2) info = decodeInfo(field.value, shared);
  }
  return [host, info];
}

/** `shared` makes one text of the many equal names of registries and namespaces. */
function decodeInfo(message: Buffer, shared: Map<string, string>): NameInfo {
  const ips: string[] = [];
  let altHosts: string[] | undefined;
  let registry = '';
  let shortName = '';
  let namespace = '';
  for (const field of readFields(message)) {
    if (field.kind !== 'bytes') continue;
    switch (field.number) {
      case 1:
        ips.push(readText(field.value));
        break;
      case 2:
        registry = share(readText(field.value), shared);
        break;
      case 3:
        shortName = readText(field.value);
        break;
      case 4:
        namespace = share(readText(field.value), shared);
        break;
      case 5:
        altHosts = [...(altHosts ?? []), readText(field.value)];
        break;
      default:
        break;
    }
  }
  return { ips, registry, shortName, namespace, altHosts: altHosts ?? none };
}

function share(text: string, shared: Map<string, string>): string {
  const known = shared.get(text);
  if (known !== undefined) return known;
  shared.set(text, text);
  return text;
}

function readText(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw new WireFormatError('a text of the name table is not UTF-8');
  return bytes.toString('utf8');
}
