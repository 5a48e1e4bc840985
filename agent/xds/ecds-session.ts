import { typeUrls } from '../../proto/type-urls.ts';
import { describeError, type Logger } from '../log.ts';
import type { PluginRollouts } from '../wasm/plugin-rollouts.ts';
import type { Offer } from '../wasm/rollout.ts';
import type { RolloutStream } from '../wasm/rollout-stream.ts';
import { shortText } from '../wasm/short-text.ts';
import { type DownstreamRequest, type EcdsDialect, ecdsDialect, type UpstreamPush } from './ecds-dialect.ts';
import { EcdsSubscription } from './ecds-subscription.ts';
import { grpcCode } from './grpc-status.ts';
import type { InterceptedStream, StreamInterceptor } from './interceptor.ts';
import { PushOutcomes } from './push-outcomes.ts';
import { isForwardedToEnvoy } from './type-urls.ts';

/** The newest response of istiod on this stream and what it has been answered. */
interface LatestPush {
  readonly nonce: string;
  readonly version: string;
  verdict: 'none' | 'ack' | 'nack';
}

/** What a nonce of ours stands for. */
type SentResponse =
  | { readonly kind: 'offer'; readonly name: string; readonly offer: number }
  /** An empty response or names of removed resources: settles the outcome of this key. */
  | { readonly kind: 'notice'; readonly key: string; readonly push: number };

/** A NACK is read by people and kept by istiod: enough for the first reasons, never a page for each plugin. */
const maxFailureLength = 4_096;

/** Responses Envoy has not answered: a few pushes of a thousand plugins, and still little memory. */
const maxUnansweredCount = 20_000;

/**
 * ECDS on one stream: an xDS server to Envoy and an xDS client to istiod, each side with its own nonces. Every
 * resource goes down alone, so that its nonce names it; istiod hears one verdict on a push when all its resources
 * have settled, and one more when a failed one has healed. Rules: docs/ecds.md.
 */
export class EcdsSession implements StreamInterceptor, RolloutStream {
  readonly #stream: InterceptedStream;
  readonly #rollouts: PluginRollouts;
  readonly #log: Logger;
  readonly #dialect: EcdsDialect;
  readonly #subscription: EcdsSubscription;
  readonly #sent = new Map<string, SentResponse>();
  readonly #outcomes = new PushOutcomes();
  #latest: LatestPush | undefined;
  /** State of the world: the version istiod was last told is accepted. */
  #acceptedVersion = '';
  #nonceCounter = 0;
  #noticeCounter = 0;
  readonly #unrepaired: Set<string>;
  /** Envoy refused a listener update meanwhile, and will not ask for it again on this stream. */
  #isListenerRefused = false;
  /** True while a push is taken apart, or names change: verdicts wait until all is known. */
  #isHoldingVerdict = false;

  constructor(options: {
    readonly stream: InterceptedStream;
    readonly rollouts: PluginRollouts;
    /**
     * Names whose last answer was a NACK: Envoy holds something it refused until the repair has its ACK. It outlives
     * streams, as what Envoy holds does.
     */
    readonly unrepaired: Set<string>;
    readonly log: Logger;
  }) {
    this.#stream = options.stream;
    this.#rollouts = options.rollouts;
    this.#unrepaired = options.unrepaired;
    this.#log = options.log;
    this.#dialect = ecdsDialect(options.stream.kind);
    this.#subscription = new EcdsSubscription(options.stream.kind);
    this.#rollouts.attach(this);
  }

  onResponse(message: Uint8Array): void {
    let push: UpstreamPush;
    try {
      push = this.#dialect.decodeResponse(message);
    } catch (error) {
      const text = `ECDS response from istiod does not decode (${message.length} bytes): ${describeError(error)}`;
      this.#log.error('ECDS response does not decode', { id: this.#stream.id, reason: describeError(error) });
      this.#stream.end({ code: grpcCode.internal, message: text });
      return;
    }
    if (push.typeUrl !== typeUrls.extensionConfig) {
      this.#refuseMixed(push);
      return;
    }
    this.#takePush(push);
  }

  onRequest(message: Uint8Array): void {
    let request: DownstreamRequest;
    try {
      request = this.#dialect.decodeRequest(message);
    } catch (error) {
      const text = `ECDS request from Envoy does not decode (${message.length} bytes): ${describeError(error)}`;
      this.#log.error('ECDS request does not decode', { id: this.#stream.id, reason: describeError(error) });
      this.#stream.end({ code: grpcCode.invalidArgument, message: text });
      return;
    }
    const change = this.#subscription.change(request);
    // First the names, then the verdict: state of the world reads a change of names as an ACK.
    this.#isHoldingVerdict = true;
    if (change.isForwarded) {
      for (const name of change.droppedNames(this.#rollouts.names())) this.#forget(name);
      this.#forwardSubscription(request, message);
    }
    this.#isHoldingVerdict = false;
    if (request.nonce !== '') this.#takeAnswer(request);
    this.#answerWhenSettled();
    this.#callForListeners();
  }

  onListenerRequest(message: Uint8Array): void {
    if (this.#unrepaired.size === 0 || this.#isListenerRefused) return;
    try {
      this.#isListenerRefused = this.#dialect.decodeRequest(message).failure !== undefined;
    } catch {
      // istiod reads it too, and says so.
    }
  }

  close(): void {
    this.#rollouts.detach(this);
    this.#sent.clear();
  }

  send(name: string, offer: Offer): void {
    const nonce = this.#nextNonce();
    this.#sent.set(nonce, { kind: 'offer', name, offer: offer.number });
    this.#log.debug('extension config sent', { id: this.#stream.id, name, content: offer.content, nonce });
    this.#stream.sendDownstream(this.#dialect.encodeOffer(offer, nonce));
  }

  settled(name: string, push: number, failure: string | undefined): void {
    this.#settle(name, push, failure);
  }

  #takePush(push: UpstreamPush): void {
    if (this.#sent.size > maxUnansweredCount) {
      const message = `Envoy has left ${this.#sent.size} extension configs unanswered (at most ${maxUnansweredCount})`;
      this.#stream.end({ code: grpcCode.resourceExhausted, message });
      return;
    }
    // A notice speaks of one response only: a refused one must not spoil the verdicts after it.
    this.#outcomes.forgetSettledNotices();
    this.#latest = { nonce: push.nonce, version: push.response.version, verdict: 'none' };
    this.#isHoldingVerdict = true;
    const taken = this.#rollouts.push(push.response, push.resources);
    const { names, nameless, start } = taken;
    const { withdrawn, areNamesLost } = this.#subscription.read(names, this.#rollouts.names());
    // An ACK brings all names along, a NACK would not.
    if (areNamesLost) this.#answer(this.#latest, 'ack', undefined);
    // A resource without a readable name may be any of the absent ones.
    if (nameless.length === 0) for (const name of withdrawn) this.#forget(name);
    for (const name of names) this.#outcomes.expect(name, taken.push);
    for (const { place, reason } of nameless) {
      const notice = this.#nextNotice();
      this.#outcomes.expect(place, notice);
      this.#outcomes.settle(place, notice, reason);
    }
    const resources = names.length + nameless.length;
    this.#log.debug('ECDS push', { id: this.#stream.id, version: push.response.version, resources });
    start();
    // Nobody would ever take them back: nothing is fetched for them, and they decide no verdict.
    for (const name of this.#subscription.unwanted(names)) this.#forget(name);
    for (const name of push.removedNames) {
      this.#forget(name);
      this.#sendNotice(push, [name], `removal of ${name}`);
    }
    if (resources === 0 && push.removedNames.length === 0) this.#sendNotice(push, [], 'empty response');
    this.#isHoldingVerdict = false;
    this.#answerWhenSettled();
    this.#callForListeners();
  }

  /**
   * Extension configs under the name of another type. Envoy would refuse the response, but it must not even see it:
   * nothing was taken out of the configs.
   */
  #refuseMixed({ typeUrl, nonce }: UpstreamPush): void {
    const failure = `the response is of type "${typeUrl}", but its resources are of type ${typeUrls.extensionConfig}`;
    this.#log.error('response from istiod is dropped', { id: this.#stream.id, reason: failure });
    // No answer where istiod would not know what it is about.
    if (!isForwardedToEnvoy(typeUrl)) return;
    this.#stream.sendUpstream(
      this.#dialect.encodeVerdict({ typeUrl, nonce, version: '', names: [], failure }),
    );
  }

  #sendNotice(push: UpstreamPush, removedNames: readonly string[], key: string): void {
    const nonce = this.#nextNonce();
    const notice = this.#nextNotice();
    this.#outcomes.expect(key, notice);
    this.#sent.set(nonce, { kind: 'notice', key, push: notice });
    this.#stream.sendDownstream(this.#dialect.encodeNotice(push, removedNames, nonce));
  }

  #takeAnswer(request: DownstreamRequest): void {
    const sent = this.#sent.get(request.nonce);
    // Answered before (state of the world repeats the nonce when only names change), or of another stream.
    if (sent === undefined) return;
    this.#sent.delete(request.nonce);
    switch (sent.kind) {
      case 'offer':
        if (request.failure === undefined) {
          if (this.#rollouts.acknowledged(sent.name, sent.offer)) this.#repaired(sent.name);
        } else {
          this.#unrepaired.add(sent.name);
          this.#rollouts.rejected(sent.name, sent.offer, shortText(request.failure));
        }
        return;
      case 'notice':
        this.#settle(
          sent.key,
          sent.push,
          request.failure === undefined ? undefined : shortText(request.failure),
        );
        // A newer notice of the same key still waits for its own answer.
        if (request.failure === undefined) this.#outcomes.forgetPush(sent.key, sent.push);
        return;
      default:
        sent satisfies never;
    }
  }

  /**
   * Envoy runs something under this name again. A listener update that it refused because it did not comes again only
   * on a new stream.
   */
  #repaired(name: string): void {
    this.#unrepaired.delete(name);
    this.#callForListeners();
  }

  /** Also when a name is gone: what it held back does not come by itself. Last, for it ends the stream. */
  #callForListeners(): void {
    if (!this.#isListenerRefused || this.#unrepaired.size > 0) return;
    this.#isListenerRefused = false;
    this.#log.info(
      'a listener update was refused beside a refused extension config: ending the stream so that it comes again',
      {
        id: this.#stream.id,
      },
    );
    const message =
      'an extension config is repaired or gone; listeners refused meanwhile are to be sent again';
    this.#stream.end({ code: grpcCode.unavailable, message });
  }

  #settle(key: string, push: number, failure: string | undefined): void {
    if (this.#outcomes.settle(key, push, failure)) this.#answerWhenSettled();
  }

  /** Nobody waits for this resource any more: it decides no verdict. */
  #forget(name: string): void {
    this.#rollouts.withdraw(name);
    this.#outcomes.forget(name);
    this.#unrepaired.delete(name);
    this.#answerWhenSettled();
  }

  /** The verdict on istiod's newest push, when every resource has one; older pushes are never answered. */
  #answerWhenSettled(): void {
    const latest = this.#latest;
    if (latest === undefined || this.#isHoldingVerdict || this.#outcomes.arePending) return;
    // A verdict behind new names would come after istiod's answer to them, and be about an older response.
    if (this.#subscription.isAnswerDue) return;
    const { untold, told } = this.#outcomes.failures(latest.nonce);
    if (untold.length > 0) {
      this.#outcomes.markReported(latest.nonce);
      if (latest.verdict !== 'nack') this.#answer(latest, 'nack', joinFailures([...untold, ...told]));
    } else if (told.length === 0 && latest.verdict !== 'ack') {
      this.#acceptedVersion = latest.version;
      this.#answer(latest, 'ack', undefined);
    }
  }

  #answer(latest: LatestPush, verdict: 'ack' | 'nack', failure: string | undefined): void {
    latest.verdict = verdict;
    if (verdict === 'ack') this.#subscription.toldAgain();
    this.#log.debug('ECDS push answered', { id: this.#stream.id, version: latest.version, verdict });
    this.#stream.sendUpstream(
      this.#dialect.encodeVerdict({
        nonce: latest.nonce,
        version: this.#acceptedVersion,
        names: this.#subscription.names,
        failure,
      }),
    );
  }

  #forwardSubscription(request: DownstreamRequest, message: Uint8Array): void {
    const latest = this.#latest;
    if (latest === undefined && request.nonce === '') {
      // Nothing of ours is in it: it passes exactly, node and all.
      if (request.kind === 'sotw') this.#acceptedVersion = request.version;
      this.#stream.sendUpstream(message);
      return;
    }
    const context =
      latest === undefined ? undefined : { nonce: latest.nonce, version: this.#acceptedVersion };
    this.#stream.sendUpstream(this.#dialect.encodeSubscription(message, context));
    if (request.kind === 'sotw' && latest !== undefined) latest.verdict = 'ack';
  }

  /** Below zero: never the number of a push. */
  #nextNotice(): number {
    this.#noticeCounter -= 1;
    return this.#noticeCounter;
  }

  #nextNonce(): string {
    this.#nonceCounter += 1;
    return `${this.#stream.id}-${this.#nonceCounter}`;
  }
}

function joinFailures(failures: readonly string[]): string {
  const text = failures.join('; ');
  return text.length <= maxFailureLength
    ? text
    : `${text.slice(0, maxFailureLength)} ... (${failures.length} in all)`;
}
