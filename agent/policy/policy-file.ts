import { createHash } from 'node:crypto';
import { dirname, resolve } from 'node:path';
import { parseSigners } from '../fetch/signature/signer.ts';
import { readBoundedFile } from './bounded-file.ts';
import { findConflicts } from './document-conflicts.ts';
import { buildPolicy } from './policy-build.ts';
import type { Policy } from './policy-data.ts';
import { type PlacedDocument, readPlacedDocument } from './policy-document.ts';
import { type PolicyFileErrorCode, type PolicyProblem, pathText } from './policy-problem.ts';
import { policySchema } from './policy-schema.ts';
import { readReferencedFiles } from './referenced-files.ts';
import { findSchemaProblems, type SchemaProblem } from './schema-problems.ts';

/** What came of reading a policy file. */
export type PolicyLoad =
  | { readonly kind: 'loaded'; readonly policy: Policy; readonly watched: readonly string[] }
  | {
      readonly kind: 'rejected';
      readonly code: PolicyFileErrorCode;
      /** At least one; in the order of the file. */
      readonly problems: readonly PolicyProblem[];
      /** Absolute paths of the policy file and of what it names: a change of one may mend it. */
      readonly watched: readonly string[];
    };

/** More than anybody reads; the rest is counted. */
const maxProblemCount = 200;

/** Reads the policy file and all files that it names. Never throws for what is in them. */
export async function loadPolicyFile(path: string): Promise<PolicyLoad> {
  const file = resolve(path);
  const reading = await readBoundedFile(file);
  if (reading.kind === 'read') return parsePolicy(reading.text, file);
  const problem = { file, line: 0, column: 0, path: '', message: `the file ${reading.problem}` };
  return { kind: 'rejected', code: 'unreadable', problems: [problem], watched: [file] };
}

/** Reads the text of a policy file, and the files that it names. `file` is its absolute path. */
export async function parsePolicy(text: string, file: string): Promise<PolicyLoad> {
  const document = readPlacedDocument(text);
  const problems: PolicyProblem[] = [
    ...findPrivateKeys(text, file),
    ...document.problems.map(({ line, column, path, message }) => ({
      file,
      line,
      column,
      path: pathText(path),
      message,
    })),
  ];
  if (document.isBroken) return rejected(problems, [file]);
  if (document.value === null) {
    const message = 'the file is empty; write at least "version: 1" and "defaultAction: deny" or "allow"';
    return rejected([...problems, { file, line: 1, column: 1, path: '', message }], [file]);
  }
  const parsed = policySchema.safeParse(document.value);
  const files = await readReferencedFiles(document.value, dirname(file));
  const watched = [...new Set([file, ...files.paths])];
  const schemaProblems = parsed.success
    ? []
    : findSchemaProblems(policySchema, document.value, parsed.error.issues);
  const found = [...schemaProblems, ...findConflicts(document.value), ...files.problems];
  problems.push(...found.map((problem) => placed(problem, document, file)));
  if (problems.length > 0 || !parsed.success) return rejected(problems, watched);
  const revision = createHash('sha256')
    .update(JSON.stringify([text, files.digest]))
    .digest('hex');
  const lineOf = (path: readonly PropertyKey[]): number => document.valuePlace(path).line;
  const policy = buildPolicy(parsed.data, { file, revision, files, lineOf });
  // Each signer is good; there may still be too many.
  const signers = await parseSigners(policy.signers);
  if (signers.kind === 'parsed') {
    return { kind: 'loaded', policy: { ...policy, trustedSigners: signers.signers }, watched };
  }
  const surplus = { path: ['signers'], part: 'key', message: signers.problems.join('; ') } as const;
  return rejected([placed(surplus, document, file)], watched);
}

function placed(
  { path, part, message }: SchemaProblem,
  document: PlacedDocument,
  file: string,
): PolicyProblem {
  const place = part === 'key' ? document.keyPlace(path) : document.valuePlace(path);
  return { file, ...place, path: pathText(path), message };
}

/** Wherever one is, also in a comment: the file is readable for many. */
function findPrivateKeys(text: string, file: string): PolicyProblem[] {
  return [...text.matchAll(/-----BEGIN [A-Z0-9 ]*PRIVATE KEY/g)].map(({ index }) => {
    const before = text.slice(0, index).split('\n');
    return {
      file,
      line: before.length,
      column: (before.at(-1)?.length ?? 0) + 1,
      path: '',
      message:
        'there is a private key; remove it, and replace it everywhere: who could read this file has it',
    };
  });
}

function rejected(problems: readonly PolicyProblem[], watched: readonly string[]): PolicyLoad {
  const sorted = problems.toSorted((left, right) => left.line - right.line || left.column - right.column);
  const texts = new Set<string>();
  const unique = sorted.filter((problem) => {
    const text = JSON.stringify(problem);
    if (texts.has(text)) return false;
    texts.add(text);
    return true;
  });
  const [first] = unique;
  if (first === undefined || unique.length <= maxProblemCount) {
    return { kind: 'rejected', code: 'invalid', problems: unique, watched };
  }
  const more = {
    ...first,
    line: 0,
    column: 0,
    path: '',
    message: `${unique.length - maxProblemCount} more problems`,
  };
  return {
    kind: 'rejected',
    code: 'invalid',
    problems: [...unique.slice(0, maxProblemCount), more],
    watched,
  };
}
