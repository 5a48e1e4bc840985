import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { poll } from '../../support/polling.ts';

/** Prints `mounted`, then takes one line of mount options at a time; ends, and its mount with it, with its input. */
const script = [
  'mount -t tmpfs -o "$1" tmpfs "$2" || exit 1',
  'echo mounted',
  'while read -r options; do mount -o "remount,$options" "$2" && echo remounted || echo refused; done',
].join('\n');

/**
 * A small file system in a mount namespace of its own: nobody else sees it, and nothing is left of it when this
 * process ends, however it ends. Its files are reached through the process that holds it (proc(5), `/proc/pid/root`).
 */
export class PrivateVolume implements AsyncDisposable {
  /** Absolute; good for every process. */
  readonly path: string;
  readonly #holder: ChildProcessWithoutNullStreams;
  readonly #answers: AsyncIterator<string>;
  /** What the holder complains of. */
  readonly #problems: readonly string[];

  private constructor(
    holder: ChildProcessWithoutNullStreams,
    answers: AsyncIterator<string>,
    problems: readonly string[],
    mountPoint: string,
  ) {
    this.path = `/proc/${holder.pid}/root${mountPoint}`;
    this.#holder = holder;
    this.#answers = answers;
    this.#problems = problems;
  }

  /** Mounts over a folder that exists. `options` are those of tmpfs(5). A text says why that is not possible here. */
  static async mount(mountPoint: string, options: string): Promise<PrivateVolume | string> {
    const inNamespace = 'exec unshare --mount --propagation private sh -c "$@"';
    const holder = spawn('sh', ['-c', inNamespace, 'sh', script, 'sh', options, mountPoint]);
    const problems: string[] = [];
    holder.on('error', (error) => problems.push(error.message));
    holder.stdin.on('error', () => undefined);
    holder.stderr.setEncoding('utf8').on('data', (text: string) => problems.push(text.trim()));
    const answers = createInterface(holder.stdout)[Symbol.asyncIterator]();
    const { done } = await answers.next();
    if (done === true) return `no private mount is possible: ${problems.join(' ') || 'unshare ended'}`;
    return new PrivateVolume(holder, answers, problems, mountPoint);
  }

  /** Changes the mount, for example to `ro` or `size=16m`. Throws Error when that is refused for seconds. */
  async remount(options: string): Promise<void> {
    await poll(
      async () => {
        this.#holder.stdin.write(`${options}\n`);
        const { done, value } = await this.#answers.next();
        if (done !== true && value === 'remounted') return { done: true, value: undefined };
        // While a file is open for writing, the volume cannot become read-only.
        return { done: false, seen: this.#problems.join(' ') };
      },
      { what: `A remount of ${this.path} with ${options}`, deadlineMs: 5_000 },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#holder.exitCode !== null) return;
    const closed = once(this.#holder, 'close');
    this.#holder.stdin.end();
    await closed;
  }
}
