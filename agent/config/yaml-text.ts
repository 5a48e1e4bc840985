import { parseDocument } from 'yaml';

/**
 * Parses one YAML document. Throws an Error whose message gives the fault and its place but no part of the text,
 * which may hold secrets.
 */
export function parseYaml(text: string): unknown {
  // Repeated keys are legal for the stock agent's parser: the last one counts.
  const document = parseDocument(text, {
    prettyErrors: false,
    uniqueKeys: false,
    merge: true,
    logLevel: 'error',
  });
  const [fault] = document.errors;
  if (fault !== undefined) {
    const line = text.slice(0, fault.pos[0]).split('\n').length;
    throw new Error(`${fault.code} in line ${line}`);
  }
  return document.toJS({ maxAliasCount: 100 }) as unknown;
}
