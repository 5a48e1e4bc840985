/** What a PromQL expression names. */
export interface PromqlNames {
  readonly metrics: ReadonlySet<string>;
  /** In matchers and in `by`, `without`, `on`, `ignoring`. */
  readonly labels: ReadonlySet<string>;
}

const keywords = new Set([
  'and',
  'or',
  'unless',
  'bool',
  'offset',
  'by',
  'without',
  'on',
  'ignoring',
  'group_left',
  'group_right',
]);

/** Reads the names out of an expression as our rules and panels use them; a wrong expression is for promtool to find. */
export function promqlNames(expression: string): PromqlNames {
  const withoutTexts = expression.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""');
  const labels = new Set<string>();
  const addAll = (text: string): void => {
    for (const [name] of text.matchAll(/[a-zA-Z_]\w*/g)) labels.add(name);
  };
  const rest = withoutTexts
    .replaceAll(/\{([^}]*)\}/g, (_, matchers: string) => {
      addAll(matchers);
      return ' ';
    })
    .replaceAll(/\b(?:by|without|on|ignoring)\s*\(([^)]*)\)/g, (_, names: string) => {
      addAll(names);
      return ' ';
    })
    .replaceAll(/\[[^\]]*\]/g, ' ');
  const words = [...rest.matchAll(/(?<![\w.])[a-zA-Z_:][\w:]*(?!\w)(?!\s*\()/g)].map(([word]) => word);
  return { metrics: new Set(words.filter((word) => !keywords.has(word))), labels };
}
