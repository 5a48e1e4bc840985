import { displayUrl } from '../fetch/module-url.ts';

/** One thing that is wrong with a policy file. */
export interface PolicyProblem {
  readonly file: string;
  /** From 1. 0: the file as a whole. */
  readonly line: number;
  /** From 1. 0: the file as a whole. */
  readonly column: number;
  /** Where in the document: `modules[0].maxHold`; empty for the whole. */
  readonly path: string;
  /** What is wrong and what to do. Holds no secret. */
  readonly message: string;
}

/** `<file>:<line>:<column>: <path> <message>`, one line. */
export function formatPolicyProblem({ file, line, column, path, message }: PolicyProblem): string {
  const place = line === 0 ? file : `${file}:${line}:${column}`;
  return path === '' ? `${place}: ${message}` : `${place}: ${path}: ${message}`;
}

export type PolicyFileErrorCode =
  /** The file is not there, or is no readable text. */
  | 'unreadable'
  /** Something in it is wrong. */
  | 'invalid';

/** The policy file cannot be used. The message lists every problem, one a line. */
export class PolicyFileError extends Error {
  override readonly name = 'PolicyFileError';
  readonly code: PolicyFileErrorCode;
  readonly problems: readonly PolicyProblem[];

  constructor(code: PolicyFileErrorCode, problems: readonly PolicyProblem[]) {
    super(`the Wasm policy cannot be used:\n${problems.map(formatPolicyProblem).join('\n')}`);
    this.code = code;
    this.problems = problems;
  }
}

/** A path in a document: `modules[0].sha256[1]`. */
export function pathText(path: readonly PropertyKey[]): string {
  return path
    .map((part, index) => {
      if (typeof part === 'number') return `[${part}]`;
      const name = String(part);
      const isPlain = /^[A-Za-z_][\w-]*$/.test(name);
      if (!isPlain) return `[${quote(name)}]`;
      return index === 0 ? name : `.${name}`;
    })
    .join('');
}

const maxQuotedLength = 120;

/** A value of the file as a message shows it: on one line, cut when long, without what may be secret. */
export function quote(value: unknown): string {
  if (typeof value !== 'string') {
    if (value === null) return 'nothing';
    if (Array.isArray(value)) return 'a list';
    if (typeof value === 'object') return 'a map';
    return JSON.stringify(value) ?? typeof value;
  }
  if (/-----BEGIN|PRIVATE KEY/.test(value) || /[\r\n]/.test(value.trim())) return 'the text';
  // User info and query of a URL may be secrets.
  const shown = /[@?]/.test(value) ? displayUrl(value) : value;
  return JSON.stringify(shown.length > maxQuotedLength ? `${shown.slice(0, maxQuotedLength)}...` : shown);
}

/** The known word that a wrong one is likely meant to be; undefined when none is near. */
export function nearestWord(wrong: string, known: readonly string[]): string | undefined {
  const distances = known.map((word) => ({
    word,
    distance: editDistance(wrong.slice(0, 64).toLowerCase(), word.toLowerCase()),
  }));
  const [best] = distances.toSorted((left, right) => left.distance - right.distance);
  return best !== undefined && best.distance <= Math.max(1, Math.floor(best.word.length / 3))
    ? best.word
    : undefined;
}

/** Levenshtein's. */
function editDistance(left: string, right: string): number {
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (const [leftIndex, letter] of left.split('').entries()) {
    const next = [leftIndex + 1];
    for (const [index, other] of right.split('').entries()) {
      const swap = (row[index] ?? 0) + (letter === other ? 0 : 1);
      next.push(Math.min(swap, (row[index + 1] ?? 0) + 1, (next[index] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
