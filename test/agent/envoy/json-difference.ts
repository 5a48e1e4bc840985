/** Every place where two JSON documents differ, one line each: path, expected, actual. Key order does not count. */
export function jsonDifferences(expected: unknown, actual: unknown, path = '$'): readonly string[] {
  if (isContainer(expected) && isContainer(actual) && Array.isArray(expected) === Array.isArray(actual)) {
    const names = new Set([...Object.keys(expected), ...Object.keys(actual)]);
    return [...names].flatMap((name) => jsonDifferences(expected[name], actual[name], `${path}.${name}`));
  }
  if (Object.is(expected, actual)) return [];
  return [`${path}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`];
}

function isContainer(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}
