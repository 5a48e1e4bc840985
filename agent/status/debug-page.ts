/** Names of fields whose text is a secret whatever the provider thinks. */
const secretName = /secret|token|password|passwd|authorization|credential|cookie|private_?key/i;

const redacted = 'REDACTED';

/**
 * A debug page as JSON text with a newline. Providers leave secrets out themselves; this is the second lock: texts
 * under telling names, user info in URLs and bearer tokens are replaced. Throws TypeError for what JSON cannot hold.
 */
export function formatDebugPage(page: unknown): string {
  const text = JSON.stringify(
    page,
    (name, value: unknown) => {
      if (value instanceof Map) return Object.fromEntries(value);
      if (value instanceof Set) return [...value];
      const isSecret = secretName.test(name) && (typeof value === 'string' || Array.isArray(value));
      if (isSecret) return redacted;
      return typeof value === 'string' ? redactText(value) : value;
    },
    2,
  );
  if (text === undefined) throw new TypeError(`a debug page cannot be a value of type ${typeof page}`);
  return `${text}\n`;
}

function redactText(text: string): string {
  return text
    .replaceAll(/(\w{1,32}:\/\/)[^/@\s]+@/g, `$1${redacted}@`)
    .replaceAll(/\b(bearer|basic)\s+[\w.~+/=-]{16,}/gi, `$1 ${redacted}`);
}
