import { join } from 'node:path';
import { readRecordFile } from '../../cache/record-file.ts';
import type { Sha256 } from '../../cache/types.ts';
import { lastKnownGoodFile } from '../wasm/data-files.ts';
import { parseKeptConfig } from '../wasm/last-known-good.ts';
import { shortPluginName } from '../wasm/plugin-name.ts';
import { type LocalPage, readLocalPage } from './local-page.ts';

/** Why a module must stay. */
export interface CachePins {
  /** Words for people by digest: `kept for shop.jwt`, `agent`, `Envoy`. */
  readonly reasons: ReadonlyMap<Sha256, readonly string[]>;
  /** What could not be learnt: while there is any, nothing may be deleted. */
  readonly gaps: readonly string[];
  /** Who was asked and is not there. */
  readonly notes: readonly string[];
}

export interface PinOptions {
  readonly folder: string;
  /** 0: not asked. */
  readonly statusPort: number;
  /** 0: not asked. */
  readonly adminPort: number;
}

/**
 * Learns which modules are in use: what Envoy accepted last, from disk; what the running agent has pushed, offers or
 * runs, from its debug page; the files that Envoy's own configuration names. Every digest on a page counts: one too
 * many only stays longer.
 */
export async function readPins(options: PinOptions): Promise<CachePins> {
  const { folder, statusPort, adminPort } = options;
  const reasons = new Map<Sha256, string[]>();
  const pin = (digest: Sha256, reason: string): void => {
    const known = reasons.get(digest) ?? [];
    if (!known.includes(reason)) reasons.set(digest, [...known, reason]);
  };
  const gaps: string[] = [];
  const notes: string[] = [];
  const path = join(folder, lastKnownGoodFile);
  const file = await readRecordFile(path);
  if (file.kind === 'damaged') gaps.push(`${path} is damaged: ${file.reason}`);
  if (file.kind === 'unreadable') gaps.push(file.error.message);
  if (file.kind === 'read') {
    for (const [name, value] of file.records) {
      const kept = parseKeptConfig(value);
      if (kept !== undefined) pin(kept.moduleDigest, `kept for ${shortPluginName(name)}`);
    }
  }
  const pages = [
    { who: 'agent', port: statusPort, flag: 'status-port', path: '/debug/wasm', digest: anyDigest },
    { who: 'Envoy', port: adminPort, flag: 'admin-port', path: ecdsDump, digest: fileDigest },
  ];
  for (const { who, port, flag, path, digest } of pages) {
    if (port === 0) continue;
    const page = await readLocalPage(port, path);
    if (page.kind === 'page') for (const [, found = ''] of page.text.matchAll(digest)) pin(found, who);
    else if (page.kind === 'unreadable') {
      gaps.push(
        `the ${who} at port ${port} cannot be asked: ${page.reason}; with --${flag}=0 it is not, where none uses this folder`,
      );
    } else notes.push(absence(who, port, page));
  }
  return { reasons, gaps, notes };
}

const ecdsDump = '/config_dump?resource=ecds_filters';
const anyDigest = /(?<![0-9a-f])([0-9a-f]{64})(?![0-9a-f])/g;
const fileDigest = /\/blobs\/sha256\/([0-9a-f]{64})/g;

function absence(
  who: string,
  port: number,
  page: Exclude<LocalPage, { kind: 'page' | 'unreadable' }>,
): string {
  switch (page.kind) {
    case 'nobody':
      return `no ${who} answers at port ${port}`;
    case 'stranger':
      return `what answers at port ${port} is no ${who} of this kind (status ${page.status})`;
    default:
      return page satisfies never;
  }
}
