import type * as z from 'zod/mini';

/** One fault of a document in words, with its place below `root`. The value itself is never repeated. */
export function schemaProblem(root: string, issue: z.core.$ZodIssue): string {
  const path = [...(root === '' ? [] : [root]), ...issue.path.map(String)].join('.');
  return `${path === '' ? 'the document' : path}: ${issueText(issue)}`;
}

function issueText(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `must be of type ${issue.expected}`;
    case 'unrecognized_keys':
      return `has unknown fields: ${issue.keys.map((key) => JSON.stringify(key.slice(0, 40))).join(', ')}`;
    case 'too_small':
      return issue.origin === 'string' || issue.origin === 'array'
        ? 'must not be empty'
        : `must be at least ${issue.minimum}`;
    case 'invalid_value':
      return `must be one of ${issue.values.map(String).join(', ')}`;
    case 'invalid_union':
      return 'must be "key" or "keyless"';
    case 'invalid_format':
      return issue.pattern === undefined ? 'has a wrong form' : `must match ${issue.pattern}`;
    default:
      return 'is not what it must be';
  }
}
