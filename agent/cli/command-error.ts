/** A command ended in failure: each line is printed as `Error: <line>`. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly lines: readonly string[];
  /** 255, as of the stock agent, where the command says nothing else. */
  readonly exitCode: number;

  constructor(lines: readonly string[], options: ErrorOptions & { readonly exitCode?: number } = {}) {
    super(lines.join('\n'), options);
    this.lines = lines;
    this.exitCode = options.exitCode ?? 255;
  }
}
