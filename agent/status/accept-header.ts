import { formatMediaType, type MediaType, parseMediaType } from './media-type.ts';

/** Envoy is asked for text only: its body is written without a look at its end marker. */
export type ScrapedPeer = 'envoy' | 'application';

/** What a peer is asked for. */
export interface PeerAccept {
  readonly accept: string;
  /** Why the header could not be used as it is; for the log. */
  readonly warning: string | undefined;
}

const text004: MediaType = { type: 'text/plain', parameters: new Map([['version', '0.0.4']]) };
const openMetrics001: MediaType = {
  type: 'application/openmetrics-text',
  parameters: new Map([['version', '0.0.1']]),
};

/** In place of a header that names nothing usable. */
const textOnly = 'text/plain;version=0.0.4';

/** A weight has three digits at most (RFC 9110 12.4.2). */
const maxKeptCount = 999;

/**
 * Narrows the scraper's `Accept` to what can be merged. Source: istio/istio `pilot/cmd/pilot-agent/status/server.go`,
 * allowedContentTypes; but nothing is shared between calls, an absent header is no reason for a warning, and the
 * weights fall steadily with more than nine types too.
 */
export function acceptFor(peer: ScrapedPeer, header: string | undefined): PeerAccept {
  if (header === undefined) return { accept: textOnly, warning: undefined };
  const kept: MediaType[] = [];
  const keep = (wanted: MediaType, onlyOnce: boolean) => {
    const key = keyOf(wanted);
    if (!onlyOnce || !kept.some((other) => keyOf(other) === key)) kept.push(wanted);
  };
  for (const item of header.split(',')) {
    const range = parseMediaType(item);
    if (range === undefined) {
      return { accept: textOnly, warning: `it has the bad item ${JSON.stringify(item.trim())}` };
    }
    const parameters = new Map([...range.parameters].filter(([name]) => name !== 'q'));
    switch (range.type) {
      case '*':
      case '*/*':
        keep(text004, true);
        break;
      case 'application/*':
        if (peer === 'application') keep(openMetrics001, true);
        break;
      case 'application/openmetrics-text':
        if (peer === 'application') keep({ type: range.type, parameters }, false);
        break;
      case 'text/*':
      case 'text/plain':
        keep({ type: range.type, parameters }, false);
        break;
      default:
        break;
    }
  }
  if (kept.length === 0) return { accept: textOnly, warning: 'it names no format that can be merged' };
  return { accept: weighted(kept.slice(0, maxKeptCount)), warning: undefined };
}

/** Falling weights below 1, all with the same number of digits. */
function weighted(types: readonly MediaType[]): string {
  const digitCount = String(types.length).length;
  return types
    .map(({ type, parameters }, index) => {
      const weight = `0.${String(types.length - index).padStart(digitCount, '0')}`;
      return formatMediaType({ type, parameters: new Map([...parameters, ['q', weight]]) });
    })
    .join(',');
}

function keyOf({ type, parameters }: MediaType): string {
  const texts = [...parameters].map(([name, value]) => `${name}=${value}`).sort();
  return [type, ...texts].join(';');
}
