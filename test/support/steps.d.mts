/** How steps are shown: a terminal gets colours and a spinner, anything else plain lines. */
export interface StepStyle {
  readonly isTerminal: boolean;
  readonly hasColour: boolean;
}

/** Colour and movement only on a terminal; `NO_COLOR` (no-color.org) and `TERM=dumb` turn colour off. */
export function stepStyle(stream: NodeJS.WriteStream, environment?: NodeJS.ProcessEnv): StepStyle;

/** Shows what a program does, step by step, with ticks and times. One step runs at a time. */
export class Steps {
  constructor(stream: NodeJS.WriteStream, environment?: NodeJS.ProcessEnv);

  /**
   * Runs one step. `note` changes the text beside the running step, `detail` is written beside the finished one.
   * Throws what `work` throws, after the step has been marked as failed.
   */
  run<Value>(
    title: string,
    work: (step: { note(text: string): void; detail(text: string): void }) => Promise<Value>,
  ): Promise<Value>;

  /** A line of its own. */
  line(text?: string): void;

  /** A line that opens a group of steps. */
  heading(text: string): void;
}
