import { hostKey } from './host-key.ts';
import {
  coversPattern,
  forAnyWebScheme,
  isOneImage,
  type PatternKey,
  type PlacePattern,
  patternKeys,
  readPattern,
} from './place-pattern.ts';
import { nearestWord, pathText, quote } from './policy-problem.ts';
import type { SchemaProblem } from './schema-problems.ts';

type Path = readonly PropertyKey[];
type Fields = Readonly<Record<string, unknown>>;

/**
 * What does not go together in a document: things a schema cannot say. It looks at what is readable and passes over
 * the rest, so that all faults are reported in one go. Pure.
 */
export function findConflicts(document: unknown): SchemaProblem[] {
  const fields = fieldsOf(document) ?? {};
  return [
    ...ruleConflicts(itemsOf(fields['modules'], ['modules']), Object.keys(fieldsOf(fields['signers']) ?? {})),
    ...['local', 'inline'].flatMap((key) => denialConflicts(fieldsOf(fields[key]), [key])),
    ...entriesOf(fields['signers'], ['signers']).flatMap(([path, signer]) => signerConflicts(signer, path)),
    ...mirrorConflicts(itemsOf(fields['mirrors'], ['mirrors'])),
    ...registryConflicts(entriesOf(fields['registries'], ['registries'])),
  ];
}

type Entry = readonly [path: Path, fields: Fields];

interface EarlierPattern {
  readonly path: Path;
  readonly pattern: PlacePattern;
}

function ruleConflicts(rules: readonly Entry[], signerNames: readonly string[]): SchemaProblem[] {
  const problems: SchemaProblem[] = [];
  const earlier: EarlierPattern[] = [];
  for (const [path, rule] of rules) {
    const keys = patternKeys.filter((key) => Object.hasOwn(rule, key));
    const [key] = keys;
    if (key === undefined || keys.length > 1) {
      const seen = keys.length === 0 ? 'has none' : `has ${keys.join(' and ')}`;
      problems.push(valueProblem(path, `${seen}; a rule needs one of ${patternKeys.join(', ')}`));
    }
    problems.push(...denialConflicts(rule, path), ...signerReferences(rule, path, signerNames));
    const plain = key === undefined || keys.length > 1 ? undefined : patternOf(key, rule[key]);
    if (plain === undefined || key === undefined) continue;
    const isDenied = rule['action'] === 'deny';
    if (isDenied && isOneImage(plain)) {
      const message =
        'denies one tag or digest only, and the same image has other names; deny its repository, or allow only what is wanted';
      problems.push(valueProblem([...path, key], message));
    }
    if (plain.kind === 'web' && Object.hasOwn(rule, 'signers') && !Object.hasOwn(rule, 'sha256')) {
      const message =
        'asks for signatures of http(s) modules, which have none; add "sha256" with the digests that are good';
      problems.push(keyProblem([...path, 'signers'], message));
    }
    const pattern = isDenied ? forAnyWebScheme(plain) : plain;
    problems.push(...shadowed(earlier, pattern, [...path, key]));
    earlier.push({ path, pattern });
  }
  return problems;
}

function shadowed(earlier: readonly EarlierPattern[], pattern: PlacePattern, path: Path): SchemaProblem[] {
  const cover = earlier.find((each) => coversPattern(each.pattern, pattern));
  if (cover === undefined) return [];
  const message = `never counts: ${pathText(cover.path)} stands before it and is for all of this; put the narrower one first`;
  return [valueProblem(path, message)];
}

/** Keys of a denying rule that are of use. */
const denialKeys: readonly string[] = [...patternKeys, 'action', 'onTightened'];

function denialConflicts(rule: Fields | undefined, path: Path): SchemaProblem[] {
  if (rule === undefined || rule['action'] !== 'deny') return [];
  const idle = Object.keys(rule).filter((key) => ruleKeys.includes(key) && !denialKeys.includes(key));
  return idle.map((key) => keyProblem([...path, key], 'has no effect in a rule that denies; remove it'));
}

const ruleKeys: readonly string[] = [
  'signers',
  'sha256',
  'paths',
  'pullPolicy',
  'staleIfError',
  'pollInterval',
  'onUpdateFailure',
  'maxHold',
  'originTimeout',
];

function signerReferences(rule: Fields, path: Path, names: readonly string[]): SchemaProblem[] {
  const wanted: unknown = rule['signers'];
  if (!Array.isArray(wanted)) return [];
  return wanted.flatMap((name: unknown, index) => {
    if (typeof name !== 'string' || names.includes(name)) return [];
    const near = nearestWord(name, names);
    const advice = near === undefined ? 'add it there' : `did you mean ${near}?`;
    return [valueProblem([...path, 'signers', index], `${quote(name)} is not under "signers"; ${advice}`)];
  });
}

function signerConflicts(signer: Fields, path: Path): SchemaProblem[] {
  const { key, keyless } = signer;
  const problems: SchemaProblem[] = [];
  if ((key === undefined) === (keyless === undefined)) {
    problems.push(valueProblem(path, 'needs either "key" or "keyless"'));
  }
  const keyFields = fieldsOf(key);
  if (keyFields !== undefined && !('publicKeys' in keyFields) && !('publicKeyFiles' in keyFields)) {
    problems.push(valueProblem([...path, 'key'], 'has no key; add "publicKeys" or "publicKeyFiles"'));
  }
  const identitiesPath = [...path, 'keyless', 'identities'];
  for (const [place, identity] of itemsOf(fieldsOf(keyless)?.['identities'], identitiesPath)) {
    if ('subject' in identity !== 'subjectPattern' in identity) continue;
    problems.push(
      valueProblem(place, 'needs either "subject" (exact) or "subjectPattern" (a regular expression)'),
    );
  }
  return problems;
}

function mirrorConflicts(mirrors: readonly Entry[]): SchemaProblem[] {
  const problems: SchemaProblem[] = [];
  const earlier: EarlierPattern[] = [];
  for (const [path, mirror] of mirrors) {
    const from = patternOf('url', mirror['from']);
    if (from !== undefined) {
      if (isOneImage(from)) problems.push(valueProblem([...path, 'from'], 'has a tag or digest; remove it'));
      problems.push(...shadowed(earlier, from, [...path, 'from']));
      earlier.push({ path, pattern: from });
    }
    for (const [place, endpoint] of itemsOf(mirror['endpoints'], [...path, 'endpoints'])) {
      const to = patternOf('url', endpoint['url']);
      if (to === undefined) continue;
      const urlPath = [...place, 'url'];
      if (isOneImage(to)) problems.push(valueProblem(urlPath, 'has a tag or digest; remove it'));
      if (from !== undefined && (from.kind === 'web') !== (to.kind === 'web')) {
        problems.push(
          valueProblem(
            urlPath,
            'is of another kind than "from"; images need oci://, other modules https:// or http://',
          ),
        );
      }
      if (to.kind === 'web' && Object.hasOwn(endpoint, 'sendNamespace')) {
        problems.push(keyProblem([...place, 'sendNamespace'], 'is for oci:// mirrors only; remove it'));
      }
    }
  }
  return problems;
}

function registryConflicts(registries: readonly Entry[]): SchemaProblem[] {
  const problems: SchemaProblem[] = [];
  const seen = new Map<string, Path>();
  for (const [path, settings] of registries) {
    const host = hostKey(String(path.at(-1)));
    const twin = host === undefined ? undefined : seen.get(host);
    if (twin !== undefined) {
      problems.push(keyProblem(path, `is the same host as ${pathText(twin)}; put both together`));
    }
    if (host !== undefined) seen.set(host, path);
    if (settings['plainHttp'] !== true) continue;
    for (const key of ['caFile', 'clientCertificate']) {
      if (key in settings)
        problems.push(keyProblem([...path, key], 'has no effect with plainHttp: true; remove one'));
    }
    if ('credentialsFile' in settings) {
      const message = 'would be sent in clear with plainHttp: true; use TLS for this host, or remove it';
      problems.push(keyProblem([...path, 'credentialsFile'], message));
    }
  }
  return problems;
}

function patternOf(key: PatternKey, value: unknown): PlacePattern | undefined {
  if (typeof value !== 'string') return undefined;
  const reading = readPattern(key, value);
  return reading.kind === 'pattern' ? reading.pattern : undefined;
}

function keyProblem(path: Path, message: string): SchemaProblem {
  return { path, part: 'key', message };
}

function valueProblem(path: Path, message: string): SchemaProblem {
  return { path, part: 'value', message };
}

/** The fields of a map; undefined for anything else. */
export function fieldsOf(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined;
}

/** The maps of a list, with their paths. */
export function itemsOf(value: unknown, path: Path): Entry[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((item: unknown, index): Entry[] => {
    const fields = fieldsOf(item);
    return fields === undefined ? [] : [[[...path, index], fields]];
  });
}

/** The maps of a map, with their paths. */
export function entriesOf(value: unknown, path: Path): Entry[] {
  return Object.entries(fieldsOf(value) ?? {}).flatMap(([name, item]): Entry[] => {
    const fields = fieldsOf(item);
    return fields === undefined ? [] : [[[...path, name], fields]];
  });
}
