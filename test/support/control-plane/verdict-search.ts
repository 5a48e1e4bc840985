/**
 * Finding the ACK or NACK a test waits for, in what the streams know and the journal holds.
 */
import type { AdsStream } from './ads-stream.ts';
import type { Journal, RequestReceived } from './journal.ts';
import { syncState } from './status-page.ts';
import { isVersionAfter } from './version.ts';

/** An ACK: the client runs what this response held. */
export interface Ack {
  readonly streamId: number;
  readonly typeUrl: string;
  /** Of the response it is about; empty for an unknown one. */
  readonly version: string;
  readonly nonce: string;
}

/** A NACK: the client refused something of this response. */
export interface Nack extends Ack {
  readonly code: number;
  readonly message: string;
  /** It is about a response that was followed by another. */
  readonly isStale: boolean;
}

/** Which versions count. Without any: only the last response of the type. */
export interface VersionFilter {
  /** Only responses of later versions than this. */
  readonly afterVersion?: string;
  /** Only responses of this version. */
  readonly version?: string;
  /** Only this stream. */
  readonly streamId?: number;
}

interface Source {
  readonly journal: Journal;
  readonly openStreams: readonly AdsStream[];
}

/** The first ACK of the filter's versions; without versions, that of the last response on an open stream. */
export function findAck(
  { journal, openStreams }: Source,
  typeUrl: string,
  filter: VersionFilter,
): Ack | undefined {
  if (hasVersion(filter)) {
    const found = requests(journal, typeUrl, filter).find(({ verdict }) => verdict === 'ack');
    return found === undefined ? undefined : ackOf(found);
  }
  for (const stream of streamsOf(openStreams, filter)) {
    const watch = stream.watches.get(typeUrl);
    if (watch !== undefined && syncState(watch) === 'synced') {
      return { streamId: stream.id, typeUrl, version: watch.versionSent, nonce: watch.nonceSent };
    }
  }
  return undefined;
}

/** The first NACK of the filter's versions; without versions, the last one of a stream whose type stands in error. */
export function findNack(
  { journal, openStreams }: Source,
  typeUrl: string,
  filter: VersionFilter,
): Nack | undefined {
  const isNack = ({ verdict }: RequestReceived): boolean => verdict === 'nack' || verdict === 'stale_nack';
  const all = requests(journal, typeUrl, filter).filter(isNack);
  if (hasVersion(filter)) return all[0] === undefined ? undefined : nackOf(all[0]);
  const inError = new Set(
    streamsOf(openStreams, filter)
      .filter((stream) => (stream.watches.get(typeUrl)?.lastError ?? '') !== '')
      .map((stream) => stream.id),
  );
  const last = all.findLast((entry) => inError.has(entry.streamId));
  return last === undefined ? undefined : nackOf(last);
}

/** Oldest first. */
function requests(journal: Journal, typeUrl: string, filter: VersionFilter): RequestReceived[] {
  const found: RequestReceived[] = [];
  for (let index = journal.entries.length - 1; index >= 0; index -= 1) {
    const entry = journal.entries[index];
    // Versions only grow, so nothing before the last older response can be about a wanted one.
    if (entry?.kind === 'response' && entry.cause !== 'raw' && isTooOld(entry.version, filter)) break;
    if (entry?.kind === 'request' && entry.request.typeUrl === typeUrl && isWanted(entry, filter)) {
      found.push(entry);
    }
  }
  return found.toReversed();
}

function isWanted(entry: RequestReceived, { afterVersion, version, streamId }: VersionFilter): boolean {
  return (
    (streamId === undefined || entry.streamId === streamId) &&
    (version === undefined || entry.answeredVersion === version) &&
    (afterVersion === undefined || isVersionAfter(entry.answeredVersion, afterVersion))
  );
}

function isTooOld(responseVersion: string, { afterVersion, version }: VersionFilter): boolean {
  return (
    (version !== undefined && isVersionAfter(version, responseVersion)) ||
    (afterVersion !== undefined && !isVersionAfter(responseVersion, afterVersion))
  );
}

function streamsOf(streams: readonly AdsStream[], { streamId }: VersionFilter): AdsStream[] {
  return streams.filter((stream) => streamId === undefined || stream.id === streamId);
}

function hasVersion(filter: VersionFilter): boolean {
  return filter.version !== undefined || filter.afterVersion !== undefined;
}

function ackOf({ streamId, request, answeredVersion }: RequestReceived): Ack {
  return { streamId, typeUrl: request.typeUrl, version: answeredVersion, nonce: request.nonce };
}

function nackOf(entry: RequestReceived): Nack {
  return {
    ...ackOf(entry),
    code: entry.request.error?.code ?? 0,
    message: entry.request.error?.message ?? '',
    isStale: entry.verdict === 'stale_nack',
  };
}
