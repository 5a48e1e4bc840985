/** A media type or range with its parameters. */
export interface MediaType {
  /** Lower case; `type/subtype`, or a single token such as `*`. */
  readonly type: string;
  /** Lower-case names. */
  readonly parameters: ReadonlyMap<string, string>;
}

const token = /^[!#$%&'*+\-.^`|~\w]+$/;

/**
 * Parses as Go's `mime.ParseMediaType`, whose verdict decides what the stock agent forwards: undefined for an empty
 * or malformed text, a malformed parameter, or one parameter with two values.
 */
export function parseMediaType(text: string): MediaType | undefined {
  const [base = ''] = text.split(';', 1);
  const type = base.trim().toLowerCase();
  const [main = '', ...subtypes] = type.split('/');
  if (!token.test(main) || subtypes.length > 1 || !subtypes.every((subtype) => token.test(subtype))) {
    return undefined;
  }
  const parameters = new Map<string, string>();
  let rest = text.slice(base.length).trim();
  while (rest !== '' && rest !== ';') {
    const match =
      /^;\s*([!#$%&'*+\-.^`|~\w]+)\s*=\s*(?:([!#$%&'*+\-.^`|~\w]+)|"((?:[^"\\\r\n]|\\.)*)")\s*/.exec(rest);
    if (match === null) return undefined;
    const [whole, name = '', plain, quoted = ''] = match;
    const value = plain ?? quoted.replaceAll(/\\([()<>@,;:\\"/[\]?=])/g, '$1');
    const key = name.toLowerCase();
    if ((parameters.get(key) ?? value) !== value) return undefined;
    parameters.set(key, value);
    rest = rest.slice(whole.length);
    if (rest !== '' && !rest.startsWith(';')) return undefined;
  }
  return { type, parameters };
}

/** Writes as Go's `mime.FormatMediaType`: parameters sorted by name, quoted where they are no tokens. */
export function formatMediaType({ type, parameters }: MediaType): string {
  const texts = [...parameters]
    .toSorted(([left], [right]) => (left < right ? -1 : 1))
    .map(([name, value]) => `; ${name}=${token.test(value) ? value : quote(value)}`);
  return `${type}${texts.join('')}`;
}

function quote(text: string): string {
  return `"${text.replaceAll(/["\\]/g, '\\$&')}"`;
}
