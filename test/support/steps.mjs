// Plain JavaScript: test/support/setup.mjs uses it before anything is installed, on Node 20. Types: steps.d.mts.

const spinnerFrames = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const spinnerIntervalMs = 100;

export function stepStyle(stream, environment = process.env) {
  const isTerminal = stream.isTTY === true;
  const hasColour = isTerminal && !environment.NO_COLOR && environment.TERM !== 'dumb';
  return { isTerminal, hasColour };
}

export class Steps {
  #stream;
  #style;

  constructor(stream, environment = process.env) {
    this.#stream = stream;
    this.#style = stepStyle(stream, environment);
  }

  async run(title, work) {
    const startMs = performance.now();
    let note = '';
    let detail = '';
    const seconds = () => `${((performance.now() - startMs) / 1000).toFixed(1)} s`;
    const stopSpinner = this.#spin(() => `${title}${note && ` ${note}`} ${seconds()}`);
    const finish = (mark, suffix) => {
      stopSpinner();
      this.line(`${mark} ${title}${suffix} ${this.#paint(2, `(${seconds()})`)}`);
    };
    try {
      const value = await work({
        note: (text) => {
          note = text;
        },
        detail: (text) => {
          detail = text;
        },
      });
      finish(this.#paint(32, '✔'), detail && `: ${detail}`);
      return value;
    } catch (error) {
      finish(this.#paint(31, '✘'), '');
      throw error;
    }
  }

  line(text = '') {
    this.#stream.write(`${text}\n`);
  }

  heading(text) {
    this.line(this.#paint(1, text));
  }

  /** Off a terminal nothing moves: the finished step's line is all. */
  #spin(text) {
    if (!this.#style.isTerminal) return () => undefined;
    let frame = 0;
    const draw = () => {
      const line = `${spinnerFrames[frame % spinnerFrames.length]} ${text()}`;
      frame += 1;
      // A line that wraps cannot be taken back with one carriage return. Some terminals say 0 columns.
      const width = (this.#stream.columns || 80) - 1;
      this.#stream.write(`\r\u001b[K${line.slice(0, width)}`);
    };
    draw();
    const timer = setInterval(draw, spinnerIntervalMs);
    return () => {
      clearInterval(timer);
      this.#stream.write('\r\u001b[K');
    };
  }

  #paint(code, text) {
    return this.#style.hasColour ? `\u001b[${code}m${text}\u001b[0m` : text;
  }
}
