import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { resolve } from 'node:path';
import { parseDockerConfig } from '../fetch/docker-config.ts';
import { signatureAlgorithms } from '../fetch/signature/public-key.ts';
import { parseSigners } from '../fetch/signature/signer.ts';
import { FetchError } from '../fetch/types.ts';
import { type FileReading, isFolder, readBoundedFile } from './bounded-file.ts';
import { entriesOf, fieldsOf, itemsOf } from './document-conflicts.ts';
import { quote } from './policy-problem.ts';
import type { SchemaProblem } from './schema-problems.ts';

type Path = readonly PropertyKey[];

/** The files that a policy names, as they were when it was read. */
export interface ReferencedFiles {
  /** What is wrong with them, each at the place that names the file. */
  readonly problems: readonly SchemaProblem[];
  /** Absolute paths, also of files that could not be read: when one changes, the policy is to be read again. */
  readonly paths: readonly string[];
  /** Digest over the contents, but not those of credentials. */
  readonly digest: string;
  /** PEM texts of a signer's key files, by signer. */
  readonly publicKeys: ReadonlyMap<string, readonly string[]>;
  /** Content of a signer's `trusted_root.json`, by signer. */
  readonly trustedRoots: ReadonlyMap<string, unknown>;
}

/**
 * Reads and checks every file that a document names, and the keys that it holds itself. Private keys and credentials
 * are looked at and forgotten. Relative paths start at `folder`.
 */
export async function readReferencedFiles(document: unknown, folder: string): Promise<ReferencedFiles> {
  const reader = new FileChecks(folder);
  const fields = fieldsOf(document) ?? {};
  for (const [path, settings] of entriesOf(fields['registries'], ['registries'])) {
    await reader.registry(path, settings);
  }
  for (const [path, signer] of entriesOf(fields['signers'], ['signers'])) {
    await reader.keySigner(path, fieldsOf(signer['key']) ?? {});
    await reader.keylessSigner(path, fieldsOf(signer['keyless']) ?? {});
  }
  for (const [path, layout] of itemsOf(fields['layouts'], ['layouts'])) {
    await reader.layout(path, layout);
  }
  return reader.finish();
}

class FileChecks {
  readonly #folder: string;
  readonly #problems: SchemaProblem[] = [];
  readonly #readings = new Map<string, FileReading>();
  readonly #hash = createHash('sha256');
  readonly #publicKeys = new Map<string, readonly string[]>();
  readonly #trustedRoots = new Map<string, unknown>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  finish(): ReferencedFiles {
    return {
      problems: this.#problems,
      paths: [...this.#readings.keys()],
      digest: this.#hash.digest('hex'),
      publicKeys: this.#publicKeys,
      trustedRoots: this.#trustedRoots,
    };
  }

  async registry(path: Path, settings: Readonly<Record<string, unknown>>): Promise<void> {
    const authorities = await this.#read([...path, 'caFile'], settings['caFile']);
    if (authorities !== undefined) this.#note([...path, 'caFile'], checkCertificates(authorities));
    const client = fieldsOf(settings['clientCertificate']) ?? {};
    const clientPath = [...path, 'clientCertificate'];
    const certificate = await this.#read([...clientPath, 'certFile'], client['certFile']);
    const key = await this.#read([...clientPath, 'keyFile'], client['keyFile']);
    if (certificate !== undefined) {
      const problem = checkCertificates(certificate);
      this.#note([...clientPath, 'certFile'], problem);
      if (key !== undefined && problem === undefined) {
        this.#note([...clientPath, 'keyFile'], checkKey(certificate, key));
      }
    }
    const credentialsPath = [...path, 'credentialsFile'];
    const credentials = await this.#read(credentialsPath, settings['credentialsFile'], { isSecret: true });
    if (credentials !== undefined) this.#note(credentialsPath, checkCredentials(credentials));
  }

  async keySigner(path: Path, key: Readonly<Record<string, unknown>>): Promise<void> {
    const algorithms = knownAlgorithms(key['algorithms']);
    const check = async (place: Path, pem: string): Promise<void> => {
      const signer = { kind: 'key', name: checkedName, publicKeys: [pem], ...algorithms };
      this.#note(place, await checkSigner(signer));
    };
    for (const [index, pem] of textsOf(key['publicKeys'])) {
      await check([...path, 'key', 'publicKeys', index], pem);
    }
    const pems: string[] = [];
    for (const [index, file] of textsOf(key['publicKeyFiles'])) {
      const place = [...path, 'key', 'publicKeyFiles', index];
      const pem = await this.#read(place, file);
      if (pem === undefined) continue;
      await check(place, pem);
      pems.push(pem);
    }
    this.#publicKeys.set(String(path.at(-1)), pems);
  }

  async keylessSigner(path: Path, keyless: Readonly<Record<string, unknown>>): Promise<void> {
    const place = [...path, 'keyless', 'trustedRootFile'];
    const text = await this.#read(place, keyless['trustedRootFile']);
    if (text === undefined) return;
    let trustedRoot: unknown;
    try {
      trustedRoot = JSON.parse(text);
    } catch {
      this.#note(place, 'is no JSON; give a trusted_root.json');
      return;
    }
    const identities = [{ issuer: 'any', subject: 'any' }];
    this.#note(place, await checkSigner({ kind: 'keyless', name: checkedName, trustedRoot, identities }));
    this.#trustedRoots.set(String(path.at(-1)), trustedRoot);
  }

  async layout(path: Path, layout: Readonly<Record<string, unknown>>): Promise<void> {
    const name = layout['path'];
    if (!isPath(name) || layout['optional'] === true || (await isFolder(resolve(this.#folder, name)))) return;
    const message = `${quote(name)} is no folder that can be read; mount it, or set optional: true`;
    this.#problems.push({ path: [...path, 'path'], part: 'value', message });
  }

  /** The text of a file; undefined when there is none to read or it cannot be. */
  async #read(place: Path, name: unknown, options = { isSecret: false }): Promise<string | undefined> {
    if (!isPath(name)) return undefined;
    const path = resolve(this.#folder, name);
    const reading = this.#readings.get(path) ?? (await readBoundedFile(path));
    this.#readings.set(path, reading);
    if (reading.kind === 'unreadable') {
      this.#problems.push({
        path: place,
        part: 'value',
        message: `the file ${quote(path)} ${reading.problem}`,
      });
      return undefined;
    }
    if (!options.isSecret) this.#hash.update(JSON.stringify([path, reading.text]));
    return reading.text;
  }

  #note(place: Path, problem: string | undefined): void {
    if (problem !== undefined) this.#problems.push({ path: place, part: 'value', message: problem });
  }
}

/** What the schema has already refused is no path to try. */
function isPath(name: unknown): name is string {
  return typeof name === 'string' && name !== '' && !/[\r\n\0]/.test(name);
}

function textsOf(value: unknown): readonly (readonly [number, string])[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((item: unknown, index) => (typeof item === 'string' ? [[index, item] as const] : []));
}

function checkCertificates(pem: string): string | undefined {
  if (/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(pem)) {
    return 'the file holds a private key; give a file with certificates only';
  }
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) return 'the file holds no PEM block "CERTIFICATE"; give certificates in PEM';
  for (const [index, block] of blocks.entries()) {
    try {
      new X509Certificate(block);
    } catch {
      return `certificate ${index + 1} of the file cannot be read; give certificates in PEM`;
    }
  }
  return undefined;
}

function checkKey(certificate: string, pem: string): string | undefined {
  try {
    const key = createPrivateKey(pem);
    if (new X509Certificate(certificate).checkPrivateKey(key)) return undefined;
    return 'the key is not that of certFile; give the two that belong together';
  } catch {
    // The cause may quote the key.
    return 'the file holds no private key in PEM without a passphrase; give one';
  }
}

function checkCredentials(text: string): string | undefined {
  try {
    parseDockerConfig(text, 'the file');
    return undefined;
  } catch (error) {
    if (!(error instanceof FetchError)) throw error;
    return error.message;
  }
}

function knownAlgorithms(value: unknown): { readonly algorithms?: readonly unknown[] } {
  const known: readonly unknown[] = signatureAlgorithms;
  const isGood = Array.isArray(value) && value.length > 0 && value.every((item) => known.includes(item));
  return isGood ? { algorithms: value } : {};
}

const checkedName = 'checked';

/** What the signature check has against a signer. Its texts never repeat the key. */
async function checkSigner(signer: unknown): Promise<string | undefined> {
  const parsed = await parseSigners([signer]);
  if (parsed.kind === 'parsed') return undefined;
  const place = /^signers\.0 \("checked"\)\.(?:publicKeys\.0|trustedRoot): /;
  return parsed.problems.map((problem) => problem.replace(place, '')).join('; ');
}
