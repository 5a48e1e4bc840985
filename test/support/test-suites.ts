/** `default` is all but the deep ones: unit, integration and e2e. `deep` is long: fuzzing, soak, big files. */
export const suiteNames = ['default', 'e2e', 'deep'] as const;
export type SuiteName = (typeof suiteNames)[number];

export interface SuiteLimits {
  /** For one test, in ms: far above what any needs, so that only a hang meets it. */
  readonly timeoutMs: number;
  /** For the whole run, in ms: ends a file that does not come to its end after its tests (something was not closed). */
  readonly runTimeoutMs: number;
  /** Test files at a time, at most. */
  readonly maxConcurrency: number;
}

export interface Suite {
  readonly files: readonly string[];
  readonly limits: SuiteLimits;
}

const limits: Readonly<Record<SuiteName, SuiteLimits>> = {
  default: { timeoutMs: 60_000, runTimeoutMs: 900_000, maxConcurrency: 4 },
  // Each has an Envoy, an agent and a control plane of its own.
  e2e: { timeoutMs: 60_000, runTimeoutMs: 900_000, maxConcurrency: 2 },
  deep: { timeoutMs: 900_000, runTimeoutMs: 7_200_000, maxConcurrency: 1 },
};

/**
 * Picks a suite's files. `found` are all `*.test.ts` files as paths from the root with `/`; `wanted` narrows to files
 * or folders, and is empty for all.
 */
export function suiteFiles(suite: SuiteName, found: readonly string[], wanted: readonly string[]): Suite {
  const files = found.filter((file) => isInSuite(suite, file) && isWanted(file, wanted));
  return { files, limits: limits[suite] };
}

function isInSuite(suite: SuiteName, file: string): boolean {
  const isDeep = file.endsWith('.deep.test.ts');
  switch (suite) {
    case 'default':
      return !isDeep;
    case 'e2e':
      return !isDeep && file.startsWith('test/e2e/');
    case 'deep':
      return isDeep;
    default:
      return suite satisfies never;
  }
}

function isWanted(file: string, wanted: readonly string[]): boolean {
  if (wanted.length === 0) return true;
  return wanted.some(
    (path) => path === '' || file === path || file.startsWith(`${path.replace(/\/$/, '')}/`),
  );
}
