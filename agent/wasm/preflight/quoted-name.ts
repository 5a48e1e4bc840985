/** Longer names are cut in messages. */
const maxShownLength = 80;

/** A name out of a module, fit for a message: quoted, control characters escaped, cut. */
export function quoted(name: string): string {
  const isCut = name.length > maxShownLength;
  return JSON.stringify(isCut ? `${name.slice(0, maxShownLength)}...` : name);
}
