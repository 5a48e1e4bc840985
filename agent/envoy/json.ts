/** A JSON object of a document that is built and written, never read back. */
export type JsonObject = Readonly<Record<string, unknown>>;
