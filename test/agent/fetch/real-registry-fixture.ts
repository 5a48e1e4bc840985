import { execFile, execFileSync, spawn } from 'node:child_process';
import { createPrivateKey, randomUUID, sign, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { Authority, type KeyedCertificate } from '../../support/certificate-authority/authority.ts';
import { ociIndex, ociManifest } from './image-registry.ts';
import { sha256 } from './module-bytes.ts';
import { answer, type SeenRequest, startWebServer } from './web-server.ts';

/** Debian packages of the same names; no dependency of this repository. */
const programs = { registry: 'docker-registry', copier: 'skopeo' };

/** Why the test cannot run here; undefined when both programs are installed. */
export function missingProgram(): string | undefined {
  for (const program of Object.values(programs)) {
    try {
      execFileSync(program, ['--version'], { stdio: 'ignore' });
    } catch {
      return `${program} is not installed (Debian package of the same name)`;
    }
  }
  return undefined;
}

/** A user of the registry made for one test run: name, password, and the bcrypt hash of the password. */
export const user = {
  name: 'ann',
  password: 'pw:1',
  hash: '$2b$04$YLUXVISXtMV4I1pIfeh.TefIc0ujZ7z3g92yGu/G4ADLOiE2zqryu',
};

/** A registry process with a folder of its own. */
export interface RunningRegistry extends AsyncDisposable {
  readonly host: string;
  readonly folder: string;
  /** Ends the process; what it holds stays on disk. */
  stop(): Promise<void>;
}

export type RegistryRole =
  /** Asks for a password. */
  | { readonly kind: 'private'; readonly tls?: KeyedCertificate }
  | { readonly kind: 'public'; readonly tls?: KeyedCertificate }
  /** Asks for a token of a token server. */
  | { readonly kind: 'token'; readonly tokens: TokenServer }
  /** A pull-through cache of another one. */
  | { readonly kind: 'cache'; readonly remoteHost: string };

/** Debian's registry on a free port. */
export async function startRegistry(role: RegistryRole): Promise<RunningRegistry> {
  const folder = await mkdtemp(join(tmpdir(), 'ferry-real-registry-'));
  const config = {
    version: 0.1,
    storage: { filesystem: { rootdirectory: join(folder, 'data') } },
    http: { addr: '127.0.0.1:0', secret: 'fixture', ...(await tlsOf(role, folder)) },
    ...(await authOf(role, folder)),
    ...(role.kind === 'cache' ? { proxy: { remoteurl: `http://${role.remoteHost}` } } : {}),
  };
  await writeFile(join(folder, 'config.yml'), JSON.stringify(config));
  const child = spawn(programs.registry, ['serve', join(folder, 'config.yml')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = once(child, 'exit');
  const lines: string[] = [];
  for await (const line of createInterface({ input: child.stderr })) {
    lines.push(line);
    const [, host] = /listening on (127\.0\.0\.1:\d+)/.exec(line) ?? [];
    if (host === undefined) continue;
    child.stderr.resume();
    const stop = async (): Promise<void> => {
      child.kill('SIGKILL');
      await ended;
    };
    const close = async (): Promise<void> => {
      await stop();
      await rm(folder, { recursive: true, force: true });
    };
    return { host, folder, stop, [Symbol.asyncDispose]: close };
  }
  await rm(folder, { recursive: true, force: true });
  throw new Error(`docker-registry did not start: ${lines.join('\n')}`);
}

async function tlsOf(role: RegistryRole, folder: string): Promise<object> {
  if (!('tls' in role) || role.tls === undefined) return {};
  const paths = { certificate: join(folder, 'server.crt'), key: join(folder, 'server.key') };
  await writeFile(paths.certificate, role.tls.certificate);
  await writeFile(paths.key, role.tls.key);
  return { tls: paths };
}

async function authOf(role: RegistryRole, folder: string): Promise<object> {
  switch (role.kind) {
    case 'private': {
      const path = join(folder, 'htpasswd');
      await writeFile(path, `${user.name}:${user.hash}\n`);
      return { auth: { htpasswd: { realm: 'fixture', path } } };
    }
    case 'token': {
      const rootcertbundle = join(folder, 'tokens.crt');
      await writeFile(rootcertbundle, role.tokens.authority);
      const { realm } = role.tokens;
      return { auth: { token: { realm, service: tokenService, issuer: tokenIssuer, rootcertbundle } } };
    }
    case 'public':
    case 'cache':
      return {};
    default:
      return role satisfies never;
  }
}

/** Layers of an image. */
export type Layers = readonly { readonly mediaType: string; readonly bytes: Buffer }[];

/** An OCI layout folder with one image, or an index over it. Returns the digest of that. */
export async function writeLayout(folder: string, layers: Layers, isIndexed: boolean): Promise<string> {
  const blobs = join(folder, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  const put = async (mediaType: string, bytes: Buffer) => {
    await writeFile(join(blobs, sha256(bytes)), bytes);
    return { mediaType, digest: `sha256:${sha256(bytes)}`, size: bytes.byteLength };
  };
  const json = (value: object): Buffer => Buffer.from(JSON.stringify(value));
  const config = json({
    architecture: 'wasm',
    os: 'wasip1',
    rootfs: { type: 'layers', diff_ids: layers.map(({ bytes }) => `sha256:${sha256(bytes)}`) },
  });
  const manifest = {
    schemaVersion: 2,
    mediaType: ociManifest,
    config: await put('application/vnd.oci.image.config.v1+json', config),
    layers: await Promise.all(layers.map(async ({ mediaType, bytes }) => put(mediaType, bytes))),
  };
  let top = await put(ociManifest, json(manifest));
  if (isIndexed) {
    const child = { ...top, platform: { os: 'wasip1', architecture: 'wasm' } };
    top = await put(ociIndex, json({ schemaVersion: 2, mediaType: ociIndex, manifests: [child] }));
  }
  await writeFile(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(join(folder, 'index.json'), json({ schemaVersion: 2, manifests: [top] }));
  return top.digest.slice('sha256:'.length);
}

/** Pushes the image of a layout folder with skopeo. */
export async function copyToRegistry(
  layout: string,
  reference: string,
  options: readonly string[] = [],
  way: { readonly caFolder?: string; readonly proxy?: string } = {},
): Promise<void> {
  const { caFolder, proxy } = way;
  const tls = caFolder === undefined ? ['--dest-tls-verify=false'] : ['--dest-cert-dir', caFolder];
  const credentials = [...tls, '--dest-creds', `${user.name}:${user.password}`];
  const places = [`oci:${layout}`, `docker://${reference}`];
  const command = ['--insecure-policy', 'copy', ...options, ...credentials, ...places];
  const env = { ...process.env, ...(proxy === undefined ? {} : { HTTP_PROXY: proxy }) };
  await promisify(execFile)(programs.copier, command, { env });
}

const tokenService = 'ferry-fixture';
const tokenIssuer = 'ferry-fixture-tokens';
/** For which the token server is asked by its name; it has no address of its own. */
const tokenHost = 'auth.test';

/** Gives out tokens that a registry believes (distribution `docs/content/spec/auth/token.md` and `jwt.md`). */
export interface TokenServer extends AsyncDisposable {
  /** Host with port, as in the realm. */
  readonly host: string;
  readonly realm: string;
  /** PEM of who signs for the key of the tokens. */
  readonly authority: string;
  /** URL of a proxy that leads to it, for programs that cannot resolve its name. */
  readonly proxy: string;
  /** Good for a refresh, as docker's `identitytoken` carries it. */
  readonly identityToken: string;
  readonly requests: readonly SeenRequest[];
}

/** A token server under the name `auth.test`, for the one user. */
export async function startTokenServer(): Promise<TokenServer> {
  const authority = Authority.createRoot('Ferry token authority');
  const pair = authority.issue([tokenHost]);
  const identityToken = randomUUID();
  const password = `Basic ${Buffer.from(`${user.name}:${user.password}`).toString('base64')}`;
  const server = await startWebServer((request, response) => {
    // A proxy is asked with the whole URL.
    const url = new URL(request.target, `http://${tokenHost}`);
    const form = request.method === 'POST' ? new URLSearchParams(request.body) : url.searchParams;
    const isUser =
      request.method === 'POST'
        ? form.get('refresh_token') === identityToken
        : request.headers.authorization === password;
    if (!isUser && request.headers.authorization !== undefined) {
      answer(response, 401, '{"errors":[{"code":"UNAUTHORIZED"}]}');
      return;
    }
    const scopes = form.getAll('scope').flatMap((scope) => scope.split(' '));
    const access = scopes.flatMap((scope) => {
      const [, name, actions = ''] = /^repository:([^:]+):(.+)$/.exec(scope) ?? [];
      return name === undefined || !isUser ? [] : [{ type: 'repository', name, actions: actions.split(',') }];
    });
    const token = webToken(pair, { aud: form.get('service'), access });
    answer(response, 200, JSON.stringify({ access_token: token, expires_in: 300 }));
  });
  const host = `${tokenHost}:${server.port}`;
  return {
    host,
    realm: `http://${host}/token`,
    authority: authority.certificate,
    proxy: server.url,
    identityToken,
    requests: server.requests,
    [Symbol.asyncDispose]: () => server.close(),
  };
}

/** A JSON web token (RFC 7519) signed with the key of a certificate, which it carries. */
function webToken(pair: KeyedCertificate, claims: object): string {
  const now = Math.floor(Date.now() / 1000);
  const x5c = [new X509Certificate(pair.certificate).raw.toString('base64')];
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const times = { exp: now + 300, nbf: now - 60, iat: now };
  const body = `${part({ typ: 'JWT', alg: 'ES256', x5c })}.${part({ iss: tokenIssuer, jti: randomUUID(), ...times, ...claims })}`;
  const key = { key: createPrivateKey(pair.key), dsaEncoding: 'ieee-p1363' } as const;
  return `${body}.${sign('sha256', Buffer.from(body), key).toString('base64url')}`;
}
