/** The largest array index of JavaScript. Source: ECMA-262, 6.1.7. */
const maxArrayIndex = 2 ** 32 - 2;

/**
 * What is wrong with a name that V8's C API cannot look up among the imports or exports of an instance; undefined when
 * nothing is. It keeps them as properties of an object, where an array index is not found by name, and cuts a NUL off
 * the end. Source: tried on Envoy 1.40 (V8 14), name by name.
 */
export function lookupProblem(name: string): string | undefined {
  if (name.endsWith('\0')) return 'ends in a NUL byte';
  return isArrayIndex(name) ? 'is a number' : undefined;
}

function isArrayIndex(name: string): boolean {
  return /^(?:0|[1-9]\d{0,9})$/.test(name) && Number(name) <= maxArrayIndex;
}
