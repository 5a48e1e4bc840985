import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

/** Either the browser to test with, or why there is none. */
export type Browser =
  | { readonly path: string; readonly skipReason: false }
  | { readonly path: undefined; readonly skipReason: string };

/** `CHROMIUM_PATH`, else the first of the usual names on PATH. */
export function findBrowser(environment: NodeJS.ProcessEnv = process.env): Browser {
  const folders = (environment['PATH'] ?? '').split(delimiter);
  const named = environment['CHROMIUM_PATH'];
  const candidates =
    named === undefined
      ? folders.flatMap((folder) =>
          ['chromium', 'chromium-browser', 'google-chrome'].map((name) => join(folder, name)),
        )
      : [named];
  const path = candidates.find(isExecutable);
  return path === undefined
    ? { path, skipReason: 'no Chromium: install the Debian package chromium, or set CHROMIUM_PATH' }
    : { path, skipReason: false };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly sessionId?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
}

export interface Screen {
  readonly width: number;
  readonly height: number;
  readonly scheme: 'light' | 'dark';
  readonly isPhone: boolean;
}

/** A page in a headless Chromium, over the DevTools protocol: a process and a profile folder of its own. */
export class BrowserPage implements AsyncDisposable {
  /** Console errors, exceptions and log entries of level error, in order. */
  readonly complaints: string[] = [];
  /** Of everything the page asked for. */
  readonly requestedUrls: string[] = [];
  readonly #process: ChildProcess;
  readonly #profile: string;
  readonly #socket: WebSocket;
  readonly #pending = new Map<number, PromiseWithResolvers<Record<string, unknown>>>();
  readonly #waiting = new Set<{ readonly method: string; readonly resolve: () => void }>();
  #sessionId: string | undefined;
  #counter = 0;

  private constructor(child: ChildProcess, profile: string, socket: WebSocket) {
    this.#process = child;
    this.#profile = profile;
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => this.#receive(JSON.parse(String(data)) as Message));
    socket.addEventListener('close', () => {
      for (const { reject } of this.#pending.values()) reject(new Error('Chromium has gone away'));
    });
  }

  static async open(path: string): Promise<BrowserPage> {
    const profile = await mkdtemp(join(tmpdir(), 'ferry-browser-'));
    // The page is our own: without a sandbox it runs as root in a container too.
    const child = spawn(
      path,
      [
        '--headless=new',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-dev-shm-usage',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--hide-scrollbars',
        '--remote-debugging-port=0',
        `--user-data-dir=${profile}`,
        'about:blank',
      ],
      { stdio: ['ignore', 'ignore', 'pipe'], detached: true },
    );
    try {
      const socket = new WebSocket(await debuggerAddress(child));
      await once(socket, 'open');
      const page = new BrowserPage(child, profile, socket);
      await page.#attach();
      return page;
    } catch (error) {
      await stop(child, profile);
      throw error;
    }
  }

  async setScreen({ width, height, scheme, isPhone }: Screen): Promise<void> {
    await this.#call('Emulation.setDeviceMetricsOverride', {
      width,
      height,
      deviceScaleFactor: isPhone ? 2 : 1,
      mobile: isPhone,
    });
    await this.#call('Emulation.setEmulatedMedia', {
      features: [{ name: 'prefers-color-scheme', value: scheme }],
    });
  }

  /** Resolves when the page and all it needs are loaded. */
  async visit(url: string): Promise<void> {
    const loaded = this.#next('Page.loadEventFired');
    const { errorText } = await this.#call('Page.navigate', { url });
    if (errorText !== undefined) throw new Error(`Chromium cannot open ${url}: ${JSON.stringify(errorText)}`);
    await loaded;
  }

  /** The value of an expression in the page; a promise is awaited. */
  async evaluate(expression: string): Promise<unknown> {
    const { result, exceptionDetails } = await this.#call('Runtime.evaluate', {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails !== undefined) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return (result as { readonly value?: unknown }).value;
  }

  /** The whole page, as PNG. */
  async screenshot(): Promise<Buffer> {
    const { data } = await this.#call('Page.captureScreenshot', { captureBeyondViewport: true });
    return Buffer.from(String(data), 'base64');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.close();
    await stop(this.#process, this.#profile);
  }

  async #attach(): Promise<void> {
    const { targetId } = await this.#call('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.#call('Target.attachToTarget', { targetId, flatten: true });
    this.#sessionId = String(sessionId);
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await this.#call(`${domain}.enable`, {});
  }

  async #call(method: string, params: Record<string, unknown>): Promise<Record<string, unknown>> {
    this.#counter += 1;
    const id = this.#counter;
    const answer = Promise.withResolvers<Record<string, unknown>>();
    this.#pending.set(id, answer);
    const session = this.#sessionId === undefined ? {} : { sessionId: this.#sessionId };
    this.#socket.send(JSON.stringify({ id, method, params, ...session }));
    return answer.promise;
  }

  async #next(method: string): Promise<void> {
    return new Promise((resolve) => {
      const waiter = { method, resolve };
      this.#waiting.add(waiter);
    });
  }

  #receive({ id, method, params = {}, result, error }: Message): void {
    if (id !== undefined) {
      const answer = this.#pending.get(id);
      this.#pending.delete(id);
      if (error === undefined) answer?.resolve(result ?? {});
      else answer?.reject(new Error(error.message));
      return;
    }
    for (const waiter of this.#waiting) {
      if (waiter.method !== method) continue;
      this.#waiting.delete(waiter);
      waiter.resolve();
    }
    this.#note(method ?? '', params);
  }

  #note(method: string, params: Record<string, unknown>): void {
    switch (method) {
      case 'Network.requestWillBeSent':
        this.requestedUrls.push((params['request'] as { readonly url: string }).url);
        return;
      case 'Runtime.consoleAPICalled':
        if (params['type'] === 'error' || params['type'] === 'warning')
          this.complaints.push(JSON.stringify(params['args']));
        return;
      case 'Runtime.exceptionThrown':
        this.complaints.push(JSON.stringify(params['exceptionDetails']));
        return;
      case 'Log.entryAdded':
        this.complaints.push(JSON.stringify(params['entry']));
        return;
      default:
        return;
    }
  }
}

/** Chromium prints where it listens. Rejects with what else it printed when it ends before. */
async function debuggerAddress(child: ChildProcess): Promise<string> {
  let printed = '';
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`Chromium ended with ${code}: ${printed}`)));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      printed = `${printed}${text}`.slice(-8_192);
      const address = /DevTools listening on (ws:\/\/\S+)/.exec(printed)?.[1];
      if (address !== undefined) resolve(address);
    });
  });
}

/** Ends the browser with all of its processes and removes its profile. */
async function stop(child: ChildProcess, profile: string): Promise<void> {
  if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
    const ended = once(child, 'exit');
    // The group of its own that it was started in: renderers and helpers too.
    process.kill(-child.pid, 'SIGKILL');
    await ended;
  }
  await rm(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
}
