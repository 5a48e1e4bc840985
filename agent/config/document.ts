/** Parses YAML text; throws for malformed text with a message that repeats none of it. */
export type YamlParser = (text: string) => unknown;

/** How texts become values: JSON always, YAML when its parser was loaded (loading it costs start-up time). */
export interface Documents {
  readonly parseYaml: YamlParser | undefined;
}

export type Document =
  | { readonly kind: 'parsed'; readonly value: unknown }
  | { readonly kind: 'malformed'; readonly reason: string };

/** True when the text can only be read with a YAML parser. An empty text is not. */
export function isYamlNeeded(text: string): boolean {
  if (text.trim() === '') return false;
  try {
    JSON.parse(text);
    return false;
  } catch {
    return true;
  }
}

/** A YAML or JSON document. An empty text is null. */
export function parseDocument(text: string, { parseYaml }: Documents): Document {
  if (text.trim() === '') return { kind: 'parsed', value: null };
  try {
    return { kind: 'parsed', value: JSON.parse(text) as unknown };
  } catch {
    // Most texts that are no JSON are YAML.
  }
  if (parseYaml === undefined) return { kind: 'malformed', reason: 'not JSON, and no YAML parser was given' };
  try {
    return { kind: 'parsed', value: parseYaml(text) };
  } catch (error) {
    return { kind: 'malformed', reason: error instanceof Error ? error.message : 'unreadable' };
  }
}
