import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { parseSize } from './byte-size.ts';
import type { XdsMode } from './discovery-wire.ts';
import { type Scenario, scenarios } from './metric-catalog.ts';

/** What a run of the bench is for. */
export type BenchPurpose =
  /** Figures. */
  | { readonly kind: 'measure' }
  /** To see whether something has got much worse than what the baseline file says. */
  | { readonly kind: 'check'; readonly baselinePath: string }
  /** To write that file. */
  | { readonly kind: 'save-baseline'; readonly baselinePath: string };

/** What a run of the bench was asked to do. */
export interface BenchOptions {
  readonly purpose: BenchPurpose;
  readonly roundCount: number;
  /** Whole rounds whose samples are dropped. */
  readonly warmUpRoundCount: number;
  /** Fewer pushes and shorter waits: shows that all works, gives no figures to quote. */
  readonly isQuick: boolean;
  readonly mode: XdsMode;
  /** TLS between agent and server. */
  readonly isTls: boolean;
  /** Undefined: `direct`, `grpc-js`, and `ferry` when it is in the tree. */
  readonly subjectNames: readonly string[] | undefined;
  readonly peers: readonly { readonly name: string; readonly command: string }[];
  /** Variables for the agents on top of those of the bench; an empty value takes one away. */
  readonly environment: Readonly<Record<string, string>>;
  readonly scenarios: readonly Scenario[];
  /** Of a push, or of one of its resources when `resourceCount` is given. */
  readonly pushSizes: readonly number[];
  /** Resources in a push; undefined: as many as fill it, of the size that istiod's have. */
  readonly resourceCount: number | undefined;
  readonly moduleSizes: readonly number[];
  /** Undefined: a new file in test/bench/results/. */
  readonly outputPath: string | undefined;
}

/** A command line that cannot be used; the message says why. */
export class BenchUsageError extends Error {}

export const benchUsage = `Usage: npm run bench -- [options]

  --rounds N            rounds that count, subjects taking turns in each (default 5)
  --quick               one short round, to see that all works; its figures are not to be quoted
  --sotw                state of the world instead of incremental ADS
  --tls                 TLS between agent and server instead of plaintext
  --peer [NAME=]CMD     one more subject: an agent with the stock command line, run as
                        "CMD proxy router --domain ..." in a folder laid out like the proxy container (repeatable)
  --env NAME=VALUE      one more variable for ferry and peers; with no value it is taken away (repeatable)
  --subjects A,B        of direct, grpc-js, ferry (default all; ferry when it is in the tree); peers are added
  --scenarios A,B       of ${scenarios.join(', ')} (default all)
  --sizes A,B           sizes of a push, decimal (default 1KB,100KB,1MB,10MB,100MB)
  --resources N         so many resources in a push, each of a size of --sizes (default: pushes of that size, full of
                        resources of 4 KB)
  --module-sizes A,B    sizes of a module (default 100KB,1MB,10MB,50MB)
  --out FILE            where the JSON goes (default a new file in test/bench/results/)
  --check               compares a short run with test/bench/baseline.json; exit code 1 when something is twice as
                        slow or as large as there. Ratios are compared, to direct and grpc-js of the same run
  --save-baseline       the same run, written to that file
  --baseline FILE       another file, for either
`;

const defaultBaseline = fileURLToPath(new URL('baseline.json', import.meta.url));
/** A check has settings of its own: with others its ratios would be others. */
const checkOptions = ['check', 'save-baseline', 'baseline', 'out'];
const checkRoundCount = 3;
const notChecked: readonly Scenario[] = ['ready', 'ten-agents', 'settled', 'first-pushes'];
const checkScenarios: readonly Scenario[] = scenarios.filter((name) => !notChecked.includes(name));

const builtInSubjects = ['direct', 'grpc-js', 'ferry'];
const maxRoundCount = 100;
const maxResourceCount = 10_000;

/** Reads the command line. Throws BenchUsageError. */
export function parseBenchOptions(args: readonly string[]): BenchOptions {
  const { values } = parse(args);
  const baselinePath = values.baseline ?? defaultBaseline;
  if (values.check || values['save-baseline']) return checkRun(values, baselinePath);
  if (values.baseline !== undefined)
    throw new BenchUsageError('--baseline: give --check or --save-baseline.');
  const isQuick = values.quick;
  const roundCount = values.rounds === undefined ? (isQuick ? 1 : 5) : Number(values.rounds);
  if (!Number.isInteger(roundCount) || roundCount < 1 || roundCount > maxRoundCount) {
    throw new BenchUsageError(`--rounds ${values.rounds}: give a whole number from 1 to ${maxRoundCount}.`);
  }
  const resourceCount = values.resources === undefined ? undefined : Number(values.resources);
  if (
    resourceCount !== undefined &&
    !(Number.isInteger(resourceCount) && resourceCount >= 1 && resourceCount <= maxResourceCount)
  ) {
    throw new BenchUsageError(
      `--resources ${values.resources}: give a whole number from 1 to ${maxResourceCount}.`,
    );
  }
  const peers = (values.peer ?? []).map(parsePeer);
  const subjectNames =
    values.subjects === undefined ? undefined : parseNames('--subjects', values.subjects, builtInSubjects);
  const allNames = [...builtInSubjects, ...peers.map(({ name }) => name)];
  const repeated = allNames.find((name, index) => allNames.indexOf(name) !== index);
  if (repeated !== undefined) {
    throw new BenchUsageError(
      `--peer: two subjects would be called ${repeated}; name them as in --peer a=CMD.`,
    );
  }
  return {
    purpose: { kind: 'measure' },
    roundCount,
    warmUpRoundCount: isQuick ? 0 : 1,
    isQuick,
    mode: values.sotw ? 'sotw' : 'delta',
    isTls: values.tls,
    subjectNames,
    peers,
    environment: Object.fromEntries((values.env ?? []).map(parseVariable)),
    scenarios:
      values.scenarios === undefined ? scenarios : parseNames('--scenarios', values.scenarios, scenarios),
    pushSizes: parseSizes('--sizes', values.sizes ?? '1KB,100KB,1MB,10MB,100MB'),
    resourceCount,
    moduleSizes: parseSizes('--module-sizes', values['module-sizes'] ?? '100KB,1MB,10MB,50MB'),
    outputPath: values.out,
  };
}

function checkRun(values: ReturnType<typeof parse>['values'], baselinePath: string): BenchOptions {
  if (values.check && values['save-baseline']) {
    throw new BenchUsageError('--check and --save-baseline: give one of them.');
  }
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== false);
  const other = given.find(([name]) => !checkOptions.includes(name))?.[0];
  if (other !== undefined) {
    throw new BenchUsageError(
      `--${other}: a check has settings of its own, else its ratios would be others.`,
    );
  }
  return {
    purpose: { kind: values.check ? 'check' : 'save-baseline', baselinePath },
    roundCount: checkRoundCount,
    warmUpRoundCount: 0,
    isQuick: false,
    mode: 'delta',
    isTls: false,
    subjectNames: builtInSubjects,
    peers: [],
    environment: {},
    scenarios: checkScenarios,
    pushSizes: parseSizes('--sizes', '1KB,100KB,1MB,10MB'),
    resourceCount: undefined,
    moduleSizes: parseSizes('--module-sizes', '1MB,10MB'),
    outputPath: values.out,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        rounds: { type: 'string' },
        quick: { type: 'boolean', default: false },
        sotw: { type: 'boolean', default: false },
        tls: { type: 'boolean', default: false },
        peer: { type: 'string', multiple: true },
        env: { type: 'string', multiple: true },
        subjects: { type: 'string' },
        scenarios: { type: 'string' },
        sizes: { type: 'string' },
        resources: { type: 'string' },
        'module-sizes': { type: 'string' },
        out: { type: 'string' },
        check: { type: 'boolean', default: false },
        'save-baseline': { type: 'boolean', default: false },
        baseline: { type: 'string' },
      },
    });
  } catch (error) {
    throw new BenchUsageError(error instanceof Error ? error.message : String(error));
  }
}

function parsePeer(text: string): { readonly name: string; readonly command: string } {
  const [, name = 'peer', command = ''] = /^(?:([a-z][a-z0-9-]*)=)?(.*)$/s.exec(text) ?? [];
  if (command.trim() === '')
    throw new BenchUsageError(`--peer ${JSON.stringify(text)}: the command is empty.`);
  return { name, command };
}

function parseVariable(text: string): readonly [string, string] {
  const [, name, value = ''] = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/s.exec(text) ?? [];
  if (name === undefined) throw new BenchUsageError(`--env ${JSON.stringify(text)}: give NAME=VALUE.`);
  return [name, value];
}

function parseNames<Name extends string>(
  option: string,
  text: string,
  known: readonly Name[],
): readonly Name[] {
  const wanted = text.split(',').map((each) => each.trim());
  const unknown = wanted.find((each) => !known.some((name) => name === each));
  if (unknown !== undefined) {
    throw new BenchUsageError(
      `${option} ${text}: ${JSON.stringify(unknown)} is none of ${known.join(', ')}.`,
    );
  }
  return known.filter((name) => wanted.includes(name));
}

function parseSizes(option: string, text: string): readonly number[] {
  const sizes = text.split(',').map((each) => {
    const sizeBytes = parseSize(each);
    if (sizeBytes === undefined)
      throw new BenchUsageError(`${option} ${text}: ${JSON.stringify(each)} is no size such as 100KB.`);
    return sizeBytes;
  });
  return [...new Set(sizes)].sort((a, b) => a - b);
}
