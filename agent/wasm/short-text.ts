/** Longest reason or URL that is logged, kept for the debug page and told to istiod, in characters. */
const maxTextLength = 2_048;

/**
 * A text of a peer at a length that people read and memory can bear. The middle goes: what was tried stands at the
 * start of a reason, what was seen at its end. Pure.
 */
export function shortText(text: string, maxLength: number = maxTextLength): string {
  if (text.length <= maxLength) return text;
  const mark = ` ... (${text.length} characters) ... `;
  const kept = Math.floor((maxLength - mark.length) / 2);
  return `${text.slice(0, kept)}${mark}${text.slice(-kept)}`;
}
