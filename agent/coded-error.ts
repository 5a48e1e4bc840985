/** An error of one part of the agent that tells its kinds apart by `code`; the part's own class gives the codes their names. */
export abstract class CodedError<Code extends string> extends Error {
  readonly code: Code;

  constructor(code: Code, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
