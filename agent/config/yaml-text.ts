import { parseAllDocuments, type ScalarTag, type Tags } from 'yaml';

/** Bytes are a text, as in Go. */
const binary: ScalarTag = {
  tag: 'tag:yaml.org,2002:binary',
  resolve: (text) => Buffer.from(text, 'base64').toString(),
};

const foreignTags = new Set([binary.tag, 'tag:yaml.org,2002:timestamp']);

/**
 * YAML 1.1 as the stock agent's parser has it: `yes` and `on` are true, `010` is eight, `1_000` a thousand; but
 * `1:30` is no number, and a date is a text.
 */
function stockTags(tags: Tags): Tags {
  const kept = tags.filter(
    (tag) => typeof tag === 'string' || (tag.format !== 'TIME' && !foreignTags.has(tag.tag)),
  );
  return [...kept, binary];
}

/**
 * Parses YAML in the dialect of `sigs.k8s.io/yaml`, which all settings of the mesh are written in. Of several documents
 * the first counts. Throws an Error whose message gives the fault and its place but no part of the text, which may
 * hold secrets.
 */
export function parseYaml(text: string): unknown {
  // Repeated keys are legal for the stock agent's parser: the last one counts.
  const [document] = parseAllDocuments(text, {
    prettyErrors: false,
    uniqueKeys: false,
    schema: 'yaml-1.1',
    customTags: stockTags,
    logLevel: 'error',
  });
  const [fault] = document?.errors ?? [];
  if (fault !== undefined) {
    const line = text.slice(0, fault.pos[0]).split('\n').length;
    throw new Error(`${fault.code} in line ${line}`);
  }
  return (document?.toJS({ maxAliasCount: 100 }) ?? null) as unknown;
}
