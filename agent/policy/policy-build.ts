import { resolve } from 'node:path';
import { hostKey } from './host-key.ts';
import {
  forAnyWebScheme,
  type PatternKey,
  type PlacePattern,
  patternKeys,
  readPattern,
} from './place-pattern.ts';
import {
  defaultTerms,
  type LayoutFolder,
  type ModuleRule,
  type PluginTerms,
  type Policy,
  type RegistrySettings,
  type RuleSite,
  type SignerData,
} from './policy-data.ts';
import { parseDuration, parseSize } from './policy-quantity.ts';
import type { PolicyDocument } from './policy-schema.ts';
import type { ReferencedFiles } from './referenced-files.ts';

/** Time for one mirror, and for one layout folder, when the file says nothing. */
const defaultMirrorTimeoutMs = 10_000;
const defaultLayoutTimeoutMs = 5_000;

export interface PolicyContext {
  /** Absolute path of the policy file: relative paths start at its folder. */
  readonly file: string;
  readonly revision: string;
  readonly files: ReferencedFiles;
  readonly lineOf: (path: readonly PropertyKey[]) => number;
}

/** Makes the policy from a document without faults, but for the signers, which take time to read. Pure. */
export function buildPolicy(
  document: PolicyDocument,
  context: PolicyContext,
): Omit<Policy, 'trustedSigners'> {
  const { file, revision, files, lineOf } = context;
  const site = (name: string, path: readonly PropertyKey[]): RuleSite => ({ name, file, line: lineOf(path) });
  const absolute = (path: string): string => resolve(file, '..', path);
  const defaults = readTerms(document.defaults, defaultTerms);
  const { caps = {} } = document;
  return {
    file,
    revision,
    modules: (document.modules ?? []).map((rule, index): ModuleRule => {
      const { text, pattern } = matchOf(rule);
      return {
        ...readTerms(rule, defaults),
        site: site(`modules[${index}]`, ['modules', index]),
        matchText: text,
        pattern: rule.action === 'deny' ? forAnyWebScheme(pattern) : pattern,
        action: rule.action,
        signers: rule.signers ?? [],
        sha256: rule.sha256,
      };
    }),
    local:
      document.local === undefined
        ? undefined
        : {
            ...readTerms(document.local, defaults),
            site: site('local', ['local']),
            action: document.local.action,
            paths: document.local.paths,
            sha256: document.local.sha256,
          },
    inline:
      document.inline === undefined
        ? undefined
        : {
            ...readTerms(document.inline, defaults),
            site: site('inline', ['inline']),
            action: document.inline.action,
            sha256: document.inline.sha256,
          },
    fallthrough: {
      ...defaults,
      site: site('defaultAction', ['defaultAction']),
      action: document.defaultAction,
    },
    signers: Object.entries(document.signers ?? {}).map(([name, signer]) => signerData(name, signer, files)),
    mirrors: (document.mirrors ?? []).map(({ from, endpoints }, index) => ({
      site: site(`mirrors[${index}]`, ['mirrors', index]),
      from: patternOf('url', from),
      endpoints: endpoints.map(({ url, timeout, sendNamespace = false }) => ({
        url: url.replace(/\/+$/, ''),
        timeoutMs: msOf(timeout) ?? defaultMirrorTimeoutMs,
        isNamespaceSent: sendNamespace,
      })),
    })),
    layouts: (document.layouts ?? []).map(
      ({ path, timeout }): LayoutFolder => ({
        path: absolute(path),
        timeoutMs: msOf(timeout) ?? defaultLayoutTimeoutMs,
      }),
    ),
    registries: new Map(
      Object.entries(document.registries ?? {}).map(([text, settings]): [string, RegistrySettings] => {
        const host = hostKey(text) ?? text;
        const { clientCertificate: client, caFile, credentialsFile } = settings;
        return [
          host,
          {
            host,
            caFile: caFile === undefined ? undefined : absolute(caFile),
            clientCertificate:
              client === undefined
                ? undefined
                : { certFile: absolute(client.certFile), keyFile: absolute(client.keyFile) },
            isPlainHttp: settings.plainHttp ?? false,
            credentialsFile: credentialsFile === undefined ? undefined : absolute(credentialsFile),
          },
        ];
      }),
    ),
    caps: {
      maxModuleBytes: sizeOf(caps.maxModuleBytes),
      maxMemoryPages: caps.maxMemoryPages,
      quotaBytes: sizeOf(caps.quotaBytes),
      connectionsPerHost: caps.connectionsPerHost,
    },
    blockedCidrs: document.blockedCidrs ?? [],
  };
}

type TermsDocument = NonNullable<PolicyDocument['defaults']>;

function readTerms(terms: TermsDocument | undefined, defaults: PluginTerms): PluginTerms {
  const pullPolicies = { IfNotPresent: 'if-not-present', Always: 'always' } as const;
  return {
    pullPolicy: terms?.pullPolicy === undefined ? defaults.pullPolicy : pullPolicies[terms.pullPolicy],
    staleIfErrorMs: msOf(terms?.staleIfError) ?? defaults.staleIfErrorMs,
    pollIntervalMs: msOf(terms?.pollInterval) ?? defaults.pollIntervalMs,
    onUpdateFailure: terms?.onUpdateFailure ?? defaults.onUpdateFailure,
    onTightened: terms?.onTightened ?? defaults.onTightened,
    maxHoldMs: msOf(terms?.maxHold) ?? defaults.maxHoldMs,
    originTimeoutMs: msOf(terms?.originTimeout) ?? defaults.originTimeoutMs,
  };
}

function matchOf(rule: Readonly<Partial<Record<PatternKey, string | undefined>>>): {
  readonly text: string;
  readonly pattern: PlacePattern;
} {
  for (const key of patternKeys) {
    const value = rule[key];
    if (value !== undefined) return { text: `${key} ${value}`, pattern: patternOf(key, value) };
  }
  throw new TypeError('a rule without a place was not refused');
}

function patternOf(key: PatternKey, text: string): PlacePattern {
  const reading = readPattern(key, text);
  if (reading.kind === 'rejected') throw new TypeError(`a rule was not refused: it ${reading.problem}`);
  return reading.pattern;
}

type SignerDocument = NonNullable<PolicyDocument['signers']>[string];

function signerData(name: string, { key, keyless }: SignerDocument, files: ReferencedFiles): SignerData {
  if (keyless !== undefined) {
    const identities = keyless.identities.map(({ issuer, subject, subjectPattern }) => ({
      issuer,
      ...(subject === undefined ? {} : { subject }),
      ...(subjectPattern === undefined ? {} : { subjectPattern }),
    }));
    return { kind: 'keyless', name, trustedRoot: files.trustedRoots.get(name), identities };
  }
  const publicKeys = [...(key?.publicKeys ?? []), ...(files.publicKeys.get(name) ?? [])];
  return {
    kind: 'key',
    name,
    publicKeys,
    ...(key?.algorithms === undefined ? {} : { algorithms: key.algorithms }),
  };
}

function msOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : parseDuration(text);
}

function sizeOf(value: string | number | undefined): number | undefined {
  return typeof value === 'string' ? parseSize(value) : value;
}
