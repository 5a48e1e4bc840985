import type { Sha256 } from '../../cache/types.ts';
import type { Signer } from '../fetch/signature/signer.ts';
import type { PullPolicy } from '../fetch/types.ts';
import type { PlacePattern } from './place-pattern.ts';

/** What is done where a plugin that runs is no longer good: leave it, or put its fail strategy in its place. */
export type RunningAction = 'keep' | 'failStrategy';

/** Where a rule stands, for messages and the debug page. */
export interface RuleSite {
  /** Path in the document: `modules[2]`, `local`, `defaultAction`. */
  readonly name: string;
  readonly file: string;
  /** From 1. */
  readonly line: number;
}

/** How a plugin is kept up to date. Each rule has all of it: what it does not say comes from `defaults`. */
export interface PluginTerms {
  /** Wins over the config's own; undefined: the config's counts. */
  readonly pullPolicy: Exclude<PullPolicy, 'unspecified'> | undefined;
  /** A cached module of this age at most stands in when a first load fails; undefined: none does. */
  readonly staleIfErrorMs: number | undefined;
  /** How often the origin is asked for a new digest without a push; undefined: never. */
  readonly pollIntervalMs: number | undefined;
  /** For an update whose fetch fails. */
  readonly onUpdateFailure: RunningAction;
  /** For a plugin that runs and that a new policy refuses. */
  readonly onTightened: RunningAction;
  /** Longest hold of a first load before the fallback; undefined: only the config's own timeout counts. */
  readonly maxHoldMs: number | undefined;
  /** Time for the origin alone, after layouts and mirrors; undefined: what is left of the whole. */
  readonly originTimeoutMs: number | undefined;
}

/** What a module must prove. All of it must hold. */
export interface ModuleProof {
  /** Names of signers, one of which must have signed; empty: no signature is asked. */
  readonly signers: readonly string[];
  /** Digests, one of which must be in the module's chain; undefined: any. */
  readonly sha256: readonly Sha256[] | undefined;
}

/** A rule on modules of one place. */
export interface ModuleRule extends PluginTerms, ModuleProof {
  readonly site: RuleSite;
  /** As written, for messages: `url oci://ghcr.io/acme`. */
  readonly matchText: string;
  readonly pattern: PlacePattern;
  readonly action: 'allow' | 'deny';
}

/** A rule on modules that are files of the proxy's own container. */
export interface LocalRule extends PluginTerms {
  readonly site: RuleSite;
  readonly action: 'allow' | 'deny';
  /** Absolute folders or files; undefined: any. */
  readonly paths: readonly string[] | undefined;
  readonly sha256: readonly Sha256[] | undefined;
}

/** A rule on modules whose bytes are in the config. */
export interface InlineRule extends PluginTerms {
  readonly site: RuleSite;
  readonly action: 'allow' | 'deny';
  readonly sha256: readonly Sha256[] | undefined;
}

/** What counts where no rule matches. */
export interface DefaultRule extends PluginTerms {
  readonly site: RuleSite;
  readonly action: 'allow' | 'deny';
}

/** A signer in the plain form that `agent/fetch/signature/signer.ts` parses. Holds public data only. */
export type SignerData =
  | {
      readonly kind: 'key';
      readonly name: string;
      /** PEM texts. */
      readonly publicKeys: readonly string[];
      readonly algorithms?: readonly string[];
    }
  | {
      readonly kind: 'keyless';
      readonly name: string;
      /** Content of a `trusted_root.json`. */
      readonly trustedRoot: unknown;
      readonly identities: readonly {
        readonly issuer: string;
        readonly subject?: string;
        readonly subjectPattern?: string;
      }[];
    };

/** A place where modules of another place are also found. */
export interface MirrorEndpoint {
  /** Without a slash at its end; what follows the rule's `from` is added. */
  readonly url: string;
  readonly timeoutMs: number;
  /** The original registry is named to the mirror as `?ns=`, as containerd does. */
  readonly isNamespaceSent: boolean;
}

export interface MirrorRule {
  readonly site: RuleSite;
  readonly from: PlacePattern;
  /** In order; at least one. */
  readonly endpoints: readonly MirrorEndpoint[];
}

/** A folder with an OCI image layout. It is only read. */
export interface LayoutFolder {
  /** Absolute. */
  readonly path: string;
  readonly timeoutMs: number;
}

/** How one host is spoken to. */
export interface RegistrySettings {
  /** Host key, as `hostKey` makes it. */
  readonly host: string;
  /** Absolute path of a PEM bundle that is trusted for this host instead of the system's. */
  readonly caFile: string | undefined;
  /** Absolute paths of PEM files. */
  readonly clientCertificate: { readonly certFile: string; readonly keyFile: string } | undefined;
  readonly isPlainHttp: boolean;
  /** Absolute path of a docker config JSON. A secret: to be read where it is used, never kept here. */
  readonly credentialsFile: string | undefined;
}

/** Upper bounds; undefined: the agent's own setting counts. They never raise it. */
export interface Caps {
  readonly maxModuleBytes: number | undefined;
  /** Pages of 64 KiB that a module may declare. */
  readonly maxMemoryPages: number | undefined;
  /** Size of the module cache on disk. */
  readonly quotaBytes: number | undefined;
  readonly connectionsPerHost: number | undefined;
}

/** What an operator allows. Immutable; a reload makes a new one. Holds no secret. */
export interface Policy {
  /** Path of the policy file; undefined: there is none, and everything is as without policies. */
  readonly file: string | undefined;
  /** Changes with the file and with the files it names (but not with credentials). */
  readonly revision: Sha256;
  /** In order: the first that matches counts. */
  readonly modules: readonly ModuleRule[];
  /** Undefined: the default action counts. */
  readonly local: LocalRule | undefined;
  readonly inline: InlineRule | undefined;
  readonly fallthrough: DefaultRule;
  readonly signers: readonly SignerData[];
  /** The same, ready to be asked. */
  readonly trustedSigners: readonly Signer[];
  /** In order: the first that matches counts. */
  readonly mirrors: readonly MirrorRule[];
  /** In order. */
  readonly layouts: readonly LayoutFolder[];
  /** By host key. */
  readonly registries: ReadonlyMap<string, RegistrySettings>;
  readonly caps: Caps;
  /** CIDR texts that are never dialled, in addition to the environment's and the built-in ones. */
  readonly blockedCidrs: readonly string[];
}

/** Terms of an agent without a policy. */
export const defaultTerms: PluginTerms = {
  pullPolicy: undefined,
  staleIfErrorMs: undefined,
  pollIntervalMs: undefined,
  onUpdateFailure: 'keep',
  onTightened: 'keep',
  maxHoldMs: undefined,
  originTimeoutMs: undefined,
};

/** Stands where `WASM_POLICY_FILE` is unset: everything is allowed, as the stock agent does. */
export const permissivePolicy: Policy = {
  file: undefined,
  revision: '',
  modules: [],
  local: undefined,
  inline: undefined,
  fallthrough: {
    ...defaultTerms,
    action: 'allow',
    site: { name: 'no policy file', file: '', line: 0 },
  },
  signers: [],
  trustedSigners: [],
  mirrors: [],
  layouts: [],
  registries: new Map(),
  caps: {
    maxModuleBytes: undefined,
    maxMemoryPages: undefined,
    quotaBytes: undefined,
    connectionsPerHost: undefined,
  },
  blockedCidrs: [],
};

/** Hears of each change of the policy in force. */
export type PolicyListener = (policy: Policy, before: Policy) => void;

/** The policy in force, and word of its changes. */
export interface PolicySource {
  readonly current: Policy;
  /** Calls `listener` after each change, until the function that is returned is called. */
  onChange(listener: PolicyListener): () => void;
}

/** The source where no policy file is named: nothing is refused, and nothing changes. */
export const noPolicy: PolicySource = { current: permissivePolicy, onChange: () => () => undefined };
