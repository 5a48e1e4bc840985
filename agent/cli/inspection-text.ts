import type { ModuleDigests } from '../fetch/types.ts';
import { sizeWords } from '../status/plugin-words.ts';
import type { ExternType, Limits, ModuleSummary } from '../wasm/preflight/module-summary.ts';
import {
  type Inspection,
  type ModuleFinding,
  type PolicyFinding,
  refusalsOf,
  type SignatureFinding,
} from './inspection.ts';
import { visible, wrap } from './terminal-text.ts';

/** No line is longer. */
const maxWidth = 110;
const labelWidth = 11;

/** Names that a list of imports or exports shows; the JSON form has all. */
const maxShownNames = 40;

/** What `wasm inspect` prints for people: how it was found, what it is, who refuses it and why. Pure. */
export function formatInspection(inspection: Inspection): string {
  const { reference, policy, fetch, signature, module } = inspection;
  const lines = [
    ...field('reference', [reference]),
    ...field('policy', [policyWords(policy)]),
    ...fetchLines(fetch),
    ...field('signature', [signatureWords(signature)]),
    ...(module === undefined ? [] : moduleLines(module)),
    ...verdictLines(inspection),
  ];
  return `${lines.join('\n')}\n`;
}

function policyWords(policy: PolicyFinding): string {
  switch (policy.kind) {
    case 'none':
      return 'none: everything is allowed';
    case 'not-judged':
      return `not judged: ${policy.reason}`;
    case 'allowed':
      return `allowed by ${policy.rule}`;
    case 'refused':
      return `REFUSED: ${policy.reason.replace(/^refused by policy: /, '')}`;
    default:
      return policy satisfies never;
  }
}

function signatureWords(signature: SignatureFinding): string {
  switch (signature.kind) {
    case 'not-asked':
      return 'not asked for';
    case 'verified':
      return `verified: ${signature.signer}, ${signature.proof}`;
    case 'refused':
      return `REFUSED: ${signature.reason}`;
    case 'unknown':
      return `NOT VERIFIED: ${signature.reason}`;
    default:
      return signature satisfies never;
  }
}

function fetchLines(fetch: Inspection['fetch']): readonly string[] {
  switch (fetch.kind) {
    case 'failed':
      return field('fetch', [`FAILED (${fetch.code}): ${fetch.reason}`]);
    case 'fetched': {
      const { from, trace, digests, matchedPin } = fetch;
      return [
        ...field('from', [from, ...trace.tried.map(({ name, reason }) => `not from ${name}: ${reason}`)]),
        ...trace.steps.flatMap(({ kind, taken, reason, refused }) =>
          field(kind, [
            taken,
            `why: ${reason}`,
            ...refused.map((each) => `not ${each.candidate}: ${each.reason}`),
          ]),
        ),
        ...list('digests', digestLines(digests)),
        ...(matchedPin === undefined ? [] : field('pin', [`it is the digest of the ${matchedPin}`])),
      ];
    }
    default:
      return fetch satisfies never;
  }
}

/** Outermost first; each may be pinned. */
function digestLines({ index, manifest, layer, archive, module }: ModuleDigests): readonly string[] {
  const ladder = [
    ...index.map((digest) => ['index', digest] as const),
    ['manifest', manifest] as const,
    ['layer', layer] as const,
    ['archive', archive] as const,
    ['module', module] as const,
  ];
  return ladder.flatMap(([name, digest]) =>
    digest === undefined ? [] : [`${name.padEnd(8)} sha256:${digest}`],
  );
}

function moduleLines({ sizeBytes, summary, preflight }: ModuleFinding): readonly string[] {
  return [
    ...field('size', [`${sizeWords(sizeBytes)} (${sizeBytes} bytes)`]),
    ...field('ABI', [preflight.kind === 'accepted' ? preflight.abi.replaceAll('_', '.') : '-']),
    ...(summary === undefined ? [] : summaryLines(summary)),
    ...list(
      'preflight',
      preflight.kind === 'accepted'
        ? ['accepted', ...preflight.warnings.map(({ code, message }) => `warning: ${message} (${code})`)]
        : preflight.reasons.map(({ code, message }) => `REFUSED: ${message} (${code})`),
    ),
  ];
}

function summaryLines({ imports, exports, memories, functionCount }: ModuleSummary): readonly string[] {
  const modules = [...new Set(imports.map(({ module }) => module))];
  const importLines = modules.map((name) => {
    const names = imports
      .filter(({ module }) => module === name)
      .map(({ name, extern }) => named(name, extern));
    return `${name === '' ? '""' : name}: ${listed(names)}`;
  });
  return [
    ...list('imports', importLines.length === 0 ? ['none'] : importLines),
    ...field('exports', [listed(exports.map(({ name, extern }) => named(name, extern)))]),
    ...list('memory', memories.length === 0 ? ['none'] : memories.map(memoryWords)),
    ...field('functions', [String(functionCount)]),
  ];
}

function named(name: string, { kind }: ExternType): string {
  return kind === 'function' ? name : `${name} (${kind})`;
}

function listed(names: readonly string[]): string {
  const more =
    names.length > maxShownNames ? `, and ${names.length - maxShownNames} more (--json has all)` : '';
  return `${names.length}: ${names.slice(0, maxShownNames).join(', ')}${more}`;
}

function memoryWords({ min, max }: Limits): string {
  const most = max === undefined ? 'no maximum' : `at most ${max}`;
  return `${min} ${min === 1 ? 'page' : 'pages'} of 64 KiB at the start, ${most}`;
}

function verdictLines(inspection: Inspection): readonly string[] {
  const refusals = refusalsOf(inspection);
  if (refusals.length === 0) return field('verdict', ['fine: Envoy would be given this module']);
  return field('verdict', ['REFUSED: Envoy would not be given this module']);
}

/** A label and its text, and what belongs to that, which stands deeper. */
function field(label: string, [text = '', ...details]: readonly string[]): readonly string[] {
  return labelled(label, [...cut(text, ''), ...details.flatMap((detail) => cut(detail, '  '))]);
}

/** A label and texts of one rank. */
function list(label: string, texts: readonly string[]): readonly string[] {
  return labelled(
    label,
    texts.flatMap((text) => cut(text, '')),
  );
}

function cut(text: string, indent: string): readonly string[] {
  return wrap(visible(text), maxWidth - labelWidth - indent.length).map((line) => `${indent}${line}`);
}

function labelled(label: string, lines: readonly string[]): readonly string[] {
  return lines.map((line, index) => `${(index === 0 ? label : '').padEnd(labelWidth)}${line}`);
}
