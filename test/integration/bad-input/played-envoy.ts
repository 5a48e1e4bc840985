import type { TestContext } from 'node:test';
import {
  deltaPath,
  type EnvoyEnd,
  openRawEnvoy,
  type RawEnvoy,
  sotwPath,
} from '../../agent/xds/raw-peers.ts';
import {
  decodeResponse,
  encodeRequest,
  type Resource,
  type XdsMode,
  type XdsResponse,
} from '../../support/control-plane/discovery-messages.ts';
import { typeUrls } from '../../support/control-plane/type-urls.ts';
import { readFields } from '../../support-tests/control-plane/wire-fields.ts';
import { testNode } from '../../support-tests/control-plane/xds-client.ts';

/** What is known of one type over all streams, as Envoy keeps it. */
interface HeldType {
  /** Asked for by name; empty for all. */
  readonly names: readonly string[];
  readonly resources: Map<string, Resource>;
  /** Of the last response on this stream, and of the last accepted one. */
  nonce: string;
  version: string;
}

/** Both forms of the protocol. */
export const modes: readonly XdsMode[] = ['delta', 'sotw'];

interface Waiter {
  readonly look: () => boolean;
}

const deadlineMs = 10_000;

/**
 * Speaks ADS to the agent in Envoy's place: subscribes to clusters, listeners and extension configs, keeps what it
 * is sent, accepts it unless `refusal` says otherwise, and opens its next stream with what it holds.
 */
export class PlayedEnvoy {
  /** Why a resource is refused; undefined accepts it. */
  refusal: (resource: Resource) => string | undefined = () => undefined;
  readonly #test: TestContext;
  readonly #socketPath: string;
  readonly #mode: XdsMode;
  readonly #types: ReadonlyMap<string, HeldType>;
  readonly #waiters = new Set<Waiter>();
  #peer: RawEnvoy | undefined;
  #responseCount = 0;

  constructor(
    test: TestContext,
    options: { readonly socketPath: string; readonly mode: XdsMode; readonly names: readonly string[] },
  ) {
    this.#test = test;
    this.#socketPath = options.socketPath;
    this.#mode = options.mode;
    const held = (names: readonly string[]): HeldType => ({
      names,
      resources: new Map(),
      nonce: '',
      version: '',
    });
    this.#types = new Map([
      [typeUrls.cds, held([])],
      [typeUrls.lds, held([])],
      [typeUrls.ecds, held(options.names)],
    ]);
  }

  /** The stream of now, for bytes that Envoy would never send. */
  get peer(): RawEnvoy {
    if (this.#peer === undefined) throw new Error('the played Envoy has no stream: connect it first');
    return this.#peer;
  }

  /** How the stream of now ends. */
  get ended(): Promise<EnvoyEnd> {
    return this.peer.ended;
  }

  /** Responses so far, over all streams. */
  get responseCount(): number {
    return this.#responseCount;
  }

  /** The content of a resource it holds; undefined when it holds none. */
  held(typeUrl: string, name: string): Buffer | undefined {
    return this.#types.get(typeUrl)?.resources.get(name)?.value;
  }

  /** The nonce of the last response of a type on this stream. */
  nonceOf(typeUrl: string): string {
    return this.#types.get(typeUrl)?.nonce ?? '';
  }

  /** Opens a stream in place of the one before. */
  connect(): void {
    this.#peer?.session.destroy();
    const path = this.#mode === 'delta' ? deltaPath : sotwPath;
    const peer = openRawEnvoy(this.#test, this.#socketPath, { headers: { ':path': path } });
    this.#peer = peer;
    let isFirst = true;
    for (const [typeUrl, type] of this.#types) {
      type.nonce = '';
      const kept = [...type.resources.keys()].map((name) => [name, type.version] as const);
      this.#send({
        typeUrl,
        names: type.names,
        ...(this.#mode === 'delta'
          ? { initialVersions: Object.fromEntries(kept) }
          : { version: type.version }),
        ...(isFirst ? { node: testNode } : {}),
      });
      isFirst = false;
    }
    void this.#receiveAll(peer);
  }

  /** Resolves once `look` is true; it is asked after each response. Throws Error after ten seconds. */
  async until(what: string, look: () => boolean): Promise<void> {
    if (look()) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(
      () => reject(new Error(`${what} did not come within ${deadlineMs} ms`)),
      deadlineMs,
    );
    const waiter: Waiter = {
      look: () => {
        const isThere = look();
        if (isThere) resolve();
        return isThere;
      },
    };
    this.#waiters.add(waiter);
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      this.#waiters.delete(waiter);
    }
  }

  #send(request: Parameters<typeof encodeRequest>[1]): void {
    this.peer.send(encodeRequest(this.#mode, request));
  }

  async #receiveAll(peer: RawEnvoy): Promise<void> {
    while (this.#peer === peer) {
      const bytes = await peer.responses.next();
      if (this.#peer === peer) this.#receive(decodeResponse(this.#mode, bytes));
    }
  }

  #receive(response: XdsResponse): void {
    const type = this.#types.get(response.typeUrl);
    if (type === undefined)
      throw new Error(`the agent sent the type ${response.typeUrl}, nobody asked for it`);
    const failures = response.resources.flatMap((resource) => this.refusal(resource) ?? []);
    type.nonce = response.nonce;
    if (failures.length === 0) this.#keep(type, response);
    this.#send({
      typeUrl: response.typeUrl,
      nonce: response.nonce,
      ...(this.#mode === 'sotw' ? { version: type.version, names: type.names } : {}),
      ...(failures.length === 0 ? {} : { error: { code: 13, message: failures.join('; ') } }),
    });
    this.#responseCount += 1;
    for (const waiter of this.#waiters) waiter.look();
  }

  #keep(type: HeldType, response: XdsResponse): void {
    type.version = response.version;
    // A state-of-the-world response holds all of a wildcard type; named types are updated one by one.
    if (this.#mode === 'sotw' && type.names.length === 0) type.resources.clear();
    for (const resource of response.resources) type.resources.set(nameOf(resource), resource);
    for (const name of response.removed) type.resources.delete(name);
  }
}

/** Every type that is used here has its name in field 1. */
function nameOf(resource: Resource): string {
  return resource.name === '' ? (bytesAt(resource.value, [1])?.toString('utf8') ?? '') : resource.name;
}

/** The bytes of a nested field by its field numbers, outermost first; the first of each that is there. */
function bytesAt(message: Buffer, path: readonly number[]): Buffer | undefined {
  let found: Buffer | undefined = message;
  for (const number of path) {
    const value: number | Buffer | undefined =
      found === undefined ? undefined : readFields(found).find((field) => field.number === number)?.value;
    found = Buffer.isBuffer(value) ? value : undefined;
  }
  return found;
}

/** The module file that an extension config names; undefined when it names none. */
export function moduleFileOf(config: Buffer): string | undefined {
  // typed_config, value, Wasm.config, vm_config, code, local, filename
  return bytesAt(config, [2, 2, 1, 3, 3, 1, 1])?.toString('utf8');
}
