import type { Documents } from './document.ts';
import type { EnvironmentRecord } from './environment.ts';
import type { InterfaceAddress } from './instance-addresses.ts';
import type { LogFlags } from './log-config.ts';

/** A file as it was found before parsing. */
export type FileContent =
  | { readonly kind: 'absent' }
  | { readonly kind: 'text'; readonly text: string }
  /** There, but not readable: the reason without the path. */
  | { readonly kind: 'unreadable'; readonly reason: string };

/** Flags of `proxy` as given; numbers are still text, so that all faults are reported together. */
export interface ProxyFlags {
  readonly domain: string;
  readonly meshConfig: string;
  readonly stsPort: string;
  readonly tokenManagerPlugin: string;
  readonly serviceCluster: string;
  readonly proxyLogLevel: string;
  readonly proxyComponentLogLevel: string;
  readonly concurrency: string;
  readonly templateFile: string;
  readonly outlierLogPath: string;
  /** `true` or `false`. */
  readonly profiling: string;
}

/** Everything the agent is told from outside, read once; the parser has no other input. */
export interface AgentInputs {
  /** Positional argument; undefined: sidecar. */
  readonly type: string | undefined;
  readonly flags: ProxyFlags;
  readonly logFlags: LogFlags;
  readonly environment: EnvironmentRecord;
  /** What relative paths are resolved against: the working directory. Absolute. */
  readonly root: string;
  readonly files: {
    readonly meshConfig: FileContent;
    readonly podLabels: FileContent;
    readonly podAnnotations: FileContent;
    /** Named by `ISTIO_BOOTSTRAP_OVERRIDE`. */
    readonly bootstrapOverride: FileContent;
    /** `./etc/certs/root-cert.pem` is a regular file. */
    readonly isLegacyRootPresent: boolean;
    /** All three of `./var/run/secrets/workload-spiffe-credentials` are there. */
    readonly areWorkloadCertificatesPresent: boolean;
  };
  readonly interfaces: readonly InterfaceAddress[];
  readonly cpuCount: number;
  /** Effective user id of the agent. */
  readonly userId: number;
  /** IP address by host name, for the statsd address; a name that could not be resolved is absent. */
  readonly resolvedHosts: ReadonlyMap<string, string>;
  readonly documents: Documents;
}
