/** Why the reading of a module ended early. */
export type ReadFailureCode =
  /** The first bytes are not those of WebAssembly. */
  | 'not_wasm'
  /** A component of the component model, not a core module. */
  | 'component'
  /** A version of the binary format other than 1. */
  | 'unknown_version'
  /** Bytes that no WebAssembly engine takes. */
  | 'malformed'
  /** A section, type or flag this reader does not know; Envoy's V8 refuses every one that was tried. */
  | 'unknown_encoding'
  /** The `name` custom section is not what proxy-wasm-cpp-host can read. */
  | 'malformed_name_section'
  /** More entries than any real module has, and than are kept in memory. */
  | 'too_complex';

/**
 * Bytes that are not a module this reader can take. It never leaves `readModule`, which returns it as data.
 * `offset` counts bytes from the start of the file.
 */
export class ModuleReadFailure extends Error {
  override readonly name = 'ModuleReadFailure';
  readonly code: ReadFailureCode;
  readonly offset: number;

  constructor(code: ReadFailureCode, offset: number, message: string) {
    super(message);
    this.code = code;
    this.offset = offset;
  }
}
