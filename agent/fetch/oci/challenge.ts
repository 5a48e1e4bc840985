/** One challenge of a `WWW-Authenticate` header. */
export interface Challenge {
  /** Lower case. */
  readonly scheme: string;
  /** By lower-case name; the first of several wins. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** Challenges kept from one answer; more is noise. */
const maxChallengeCount = 16;

/**
 * Reads all challenges of all `WWW-Authenticate` headers (RFC 9110 section 11.6.1): several in one header or many
 * headers, quoted and unquoted values, any case. Tolerant where servers are sloppy: an unquoted value runs to the
 * next comma or space. What cannot be read is skipped to the next comma. Pure; never throws.
 */
export function parseChallenges(headers: readonly string[]): readonly Challenge[] {
  return headers.flatMap(parseHeader).slice(0, maxChallengeCount);
}

interface OpenChallenge {
  readonly scheme: string;
  readonly parameters: Map<string, string>;
}

function parseHeader(header: string): Challenge[] {
  const challenges: OpenChallenge[] = [];
  let position = 0;
  const take = (pattern: RegExp): RegExpExecArray | undefined => {
    pattern.lastIndex = position;
    const match = pattern.exec(header) ?? undefined;
    if (match !== undefined) position = pattern.lastIndex;
    return match;
  };
  while (position < header.length && challenges.length <= maxChallengeCount) {
    take(separators);
    const name = take(token)?.[0]?.toLowerCase();
    if (name === undefined) {
      take(untilComma);
      continue;
    }
    const current = challenges.at(-1);
    if (current !== undefined && take(equals) !== undefined) {
      const value = readValue(take);
      if (!current.parameters.has(name)) current.parameters.set(name, value);
      continue;
    }
    challenges.push({ scheme: name, parameters: new Map() });
    // A lone blob in place of parameters, as in `Negotiate abc==`, is no scheme.
    take(token68);
  }
  return challenges;
}

function readValue(take: (pattern: RegExp) => RegExpExecArray | undefined): string {
  const quoted = take(quotedString);
  if (quoted !== undefined) return (quoted[1] ?? '').replaceAll(/\\(.)/gs, '$1');
  return take(unquoted)?.[0] ?? '';
}

const separators = /[\s,]*/y;
const token = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
const equals = /[ \t]*=[ \t]*/y;
const quotedString = /"((?:[^"\\]|\\.)*)"?/sy;
const unquoted = /[^\s,]*/y;
const token68 = /[ \t]+[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)/y;
const untilComma = /[^,]+/y;
