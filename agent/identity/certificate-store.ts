import type { ServedCertificate } from '../../metrics/identity-metrics.ts';
import { type Clock, unlessAborted } from '../clock.ts';
import type { RotationRule, WorkloadFiles } from '../config/identity-config.ts';
import type { Logger } from '../log.ts';
import type { IssuedCertificate } from './certificate-issuer.ts';
import { type FileCertificates, isFilled } from './file-certificates.ts';
import { IdentityError } from './identity-error.ts';
import type { OutputContents, OutputFiles } from './output-files.ts';
import { mergeAnchors } from './pem.ts';
import { rotationTimeMs } from './rotation.ts';
import type { Secret } from './secret-messages.ts';
import { parseSecretName, type SecretKind, workloadName, workloadRootName } from './secret-name.ts';
import { findSystemRoots } from './system-roots.ts';

/** Where the SDS server gets what it serves. */
export interface SecretSource {
  /** Throws IdentityError; rejects with the signal's reason when aborted. */
  generate(name: string, options: { readonly signal: AbortSignal }): Promise<Secret>;
  /** No stream watches this name any more. */
  release(name: string): void;
}

export interface CertificateStoreOptions {
  /** What relative paths in resource names are resolved against. Absolute. */
  readonly resolvePath: (path: string) => string;
  readonly workloadFiles: WorkloadFiles;
  readonly files: FileCertificates;
  /** Gets a new certificate from the CA; undefined: there is no CA in this mode. */
  readonly issue: ((options: { readonly signal: AbortSignal }) => Promise<IssuedCertificate>) | undefined;
  readonly rotation: RotationRule;
  /** Undefined: nothing is written. */
  readonly output: OutputFiles | undefined;
  /** What is served under this name has changed: whoever watches it is to be given it anew. */
  readonly onUpdate: (name: string) => void;
  readonly log: Logger;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
}

/**
 * A rotation that is due at once (a ratio of 1, a certificate of seconds) must not become a flood of requests to the CA.
 */
const shortestLifeMs = 1000;
/** The clock of the machine may be set: it is looked at this often. Also below the longest delay of a timer. */
const longestTimerMs = 3_600_000;

/**
 * Where each secret comes from: files first, then the certificate that was issued last, then the CA
 * (`security/pkg/nodeagent/cache/secretcache.go`). One request to the CA at a time; who comes meanwhile shares it.
 */
export class CertificateStore implements SecretSource {
  readonly #options: CertificateStoreOptions;
  readonly #closing = new AbortController();
  /** The certificate to serve; undefined when a new one is due. */
  #current: IssuedCertificate | undefined;
  /** Stays when a new one is due, so that its remaining life can be watched. */
  #newest: IssuedCertificate | undefined;
  #issuing: Promise<IssuedCertificate> | undefined;
  #rotationTimer: Disposable | undefined;
  /** The root that Envoy was last told of. */
  #knownRoot: string | undefined;
  #meshAnchors: readonly string[] = [];

  constructor(options: CertificateStoreOptions) {
    this.#options = options;
  }

  /** The issued certificate, for metrics; also while its renewal fails. */
  get served(): readonly ServedCertificate[] {
    if (this.#newest === undefined) return [];
    return [{ resourceName: workloadName, notAfterMs: this.#newest.notAfterMs }];
  }

  async generate(name: string, options: { readonly signal: AbortSignal }): Promise<Secret> {
    const signal = AbortSignal.any([options.signal, this.#closing.signal]);
    signal.throwIfAborted();
    const kind = parseSecretName(name);
    switch (kind.kind) {
      case 'workload':
        return await this.#workload(name, signal);
      case 'workload-root':
        return await this.#workloadRoot(name, signal);
      default:
        return await this.#file(name, kind, signal);
    }
  }

  release(name: string): void {
    this.#options.files.release(name);
  }

  /**
   * Takes over the roots of the mesh (PEM texts), as istiod sent them. When they differ from those before, the roots
   * are pushed, and the workload gets a new certificate: the CA may have moved to a new root.
   */
  setMeshAnchors(certificates: readonly string[]): void {
    if (certificates.join('\n') === this.#meshAnchors.join('\n')) return;
    this.#meshAnchors = [...certificates];
    this.#options.onUpdate(workloadRootName);
    this.#current = undefined;
    this.#options.onUpdate(workloadName);
  }

  /** Ends all that is going on; whoever waits for a secret gets IdentityError `closed`. */
  async close(): Promise<void> {
    this.#closing.abort(new IdentityError('closed', 'the agent is ending'));
    this.#rotationTimer?.[Symbol.dispose]();
    await this.#issuing?.catch(() => undefined);
    await this.#options.files.close();
  }

  async #workload(name: string, signal: AbortSignal): Promise<Secret> {
    const { workloadFiles, files } = this.#options;
    const isFile =
      name === workloadName &&
      !workloadFiles.areOwnOutput &&
      (await isFilled(workloadFiles.certificatePath)) &&
      (await isFilled(workloadFiles.keyPath));
    if (isFile) {
      const pair = await files.readKeyPair(name, workloadFiles, { signal });
      await this.#write(pair);
      return { kind: 'key-pair', name, ...pair };
    }
    const { certificate, isFresh } = await this.#issued(signal);
    const { certificateChain, privateKey } = certificate;
    if (name === workloadName) {
      const root = isFresh ? { root: Buffer.from(certificate.root) } : {};
      await this.#write({ certificateChain, privateKey, ...root });
    }
    return { kind: 'key-pair', name, certificateChain, privateKey };
  }

  async #workloadRoot(name: string, signal: AbortSignal): Promise<Secret> {
    const { workloadFiles, files } = this.#options;
    let roots: string;
    if (!workloadFiles.areOwnOutput && (await isFilled(workloadFiles.rootPath))) {
      roots = await files.readRoots(name, workloadFiles.rootPath, { signal });
      this.#knownRoot = roots;
    } else {
      roots = (await this.#issued(signal)).certificate.root;
    }
    const certificates = Buffer.from(mergeAnchors(roots, this.#meshAnchors));
    await this.#write({ root: certificates });
    return { kind: 'roots', name, certificates };
  }

  async #file(
    name: string,
    kind: Exclude<SecretKind, { kind: 'workload' | 'workload-root' }>,
    signal: AbortSignal,
  ): Promise<Secret> {
    const { files, resolvePath } = this.#options;
    switch (kind.kind) {
      case 'file-key-pair': {
        const paths = {
          certificatePath: resolvePath(kind.certificatePath),
          keyPath: resolvePath(kind.keyPath),
        };
        return { kind: 'key-pair', name, ...(await files.readKeyPair(name, paths, { signal })) };
      }
      case 'file-root':
        return await this.#fileRoots(name, resolvePath(kind.path), signal);
      case 'system-root': {
        const path = await findSystemRoots();
        if (path === undefined) {
          throw new IdentityError('file', `${name}: there is no CA bundle on this system; install one`);
        }
        return await this.#fileRoots(name, path, signal);
      }
      case 'malformed':
        throw new IdentityError('bad_name', `${JSON.stringify(name)} is not of the form ${kind.expected}`);
      default:
        return kind satisfies never;
    }
  }

  async #fileRoots(name: string, path: string, signal: AbortSignal): Promise<Secret> {
    const certificates = await this.#options.files.readRoots(name, path, { signal });
    return { kind: 'roots', name, certificates: Buffer.from(certificates, 'latin1') };
  }

  async #issued(
    signal: AbortSignal,
  ): Promise<{ readonly certificate: IssuedCertificate; readonly isFresh: boolean }> {
    const { issue, log, clock } = this.#options;
    this.#dropExpired();
    if (this.#current !== undefined) {
      log.info('returned workload certificate from cache', {
        ttlSeconds: Math.round((this.#current.notAfterMs - clock.now()) / 1000),
      });
      return { certificate: this.#current, isFresh: false };
    }
    if (issue === undefined) {
      const { certificatePath } = this.#options.workloadFiles;
      throw new IdentityError(
        'no_source',
        `there is no workload certificate: no CA is used in this mode and ${certificatePath} (with its key and root) is not there`,
      );
    }
    this.#issuing ??= this.#issue(issue).finally(() => {
      this.#issuing = undefined;
    });
    return { certificate: await unlessAborted(this.#issuing, { signal }), isFresh: true };
  }

  /** Timers stand still while the machine sleeps or a snapshot of it lies on a disk: the rotation may come too late. */
  #dropExpired(): void {
    if (this.#current === undefined || this.#options.clock.now() < this.#current.notAfterMs) return;
    this.#current = undefined;
    this.#options.onUpdate(workloadName);
  }

  async #issue(issue: NonNullable<CertificateStoreOptions['issue']>): Promise<IssuedCertificate> {
    const certificate = await issue({ signal: this.#closing.signal });
    this.#current = certificate;
    this.#newest = certificate;
    this.#scheduleRotation(certificate);
    if (certificate.root !== this.#knownRoot) {
      this.#options.log.info('Root cert has changed, start rotating root cert');
      this.#knownRoot = certificate.root;
      this.#options.onUpdate(workloadRootName);
    }
    return certificate;
  }

  #scheduleRotation(certificate: IssuedCertificate): void {
    const { rotation, clock, random } = this.#options;
    const dueAtMs = Math.max(
      certificate.issuedAtMs + shortestLifeMs,
      rotationTimeMs(certificate, rotation, { nowMs: clock.now(), random }),
    );
    this.#waitForRotation(certificate, dueAtMs);
  }

  #waitForRotation(certificate: IssuedCertificate, dueAtMs: number): void {
    const { clock, log, onUpdate } = this.#options;
    this.#rotationTimer?.[Symbol.dispose]();
    const delayMs = Math.max(0, dueAtMs - clock.now());
    this.#rotationTimer = clock.schedule(Math.min(delayMs, longestTimerMs), () => {
      // The mesh's roots may have made it out of date already.
      if (this.#current !== certificate) return;
      if (clock.now() < dueAtMs) {
        this.#waitForRotation(certificate, dueAtMs);
        return;
      }
      log.debug('rotating certificate');
      this.#current = undefined;
      onUpdate(workloadName);
    });
  }

  async #write(contents: OutputContents): Promise<void> {
    await this.#options.output?.write(contents);
  }
}
