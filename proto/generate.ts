/**
 * Generates proto/gen from the `.proto` files of the `@grpc/grpc-js-xds` package.
 * `--check` writes nothing and fails when proto/gen is not what the inputs give.
 * Why that package: docs/decisions/proto-inputs.md.
 */
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';

const repositoryRoot = dirname(import.meta.dirname);
const inputRoot = join(repositoryRoot, 'node_modules/@grpc/grpc-js-xds/deps');
const inputFolders = ['envoy-api', 'xds', 'googleapis', 'protoc-gen-validate'];
const outputFolder = join(import.meta.dirname, 'gen');

const rootFiles = [
  'envoy/service/discovery/v3/discovery.proto',
  'envoy/config/core/v3/extension.proto',
  'envoy/extensions/filters/http/wasm/v3/wasm.proto',
  'envoy/extensions/filters/network/wasm/v3/wasm.proto',
  'udpa/type/v1/typed_struct.proto',
  'xds/type/v3/typed_struct.proto',
];

const types = [
  'envoy.service.discovery.v3.DiscoveryRequest',
  'envoy.service.discovery.v3.DiscoveryResponse',
  'envoy.service.discovery.v3.DeltaDiscoveryRequest',
  'envoy.service.discovery.v3.DeltaDiscoveryResponse',
  'envoy.config.core.v3.TypedExtensionConfig',
  'envoy.extensions.filters.http.wasm.v3.Wasm',
  'envoy.extensions.filters.network.wasm.v3.Wasm',
  'udpa.type.v1.TypedStruct',
  'xds.type.v3.TypedStruct',
];

/** Left out on purpose: their fields are kept as unknown bytes, so they pass through exactly as they came. */
const excludedTypes = [
  'envoy.config.core.v3.Node',
  'envoy.config.core.v3.ControlPlane',
  'envoy.config.core.v3.Metadata',
  'envoy.config.core.v3.RetryPolicy',
  'envoy.service.discovery.v3.ResourceLocator',
  'envoy.service.discovery.v3.ResourceName',
  'envoy.annotations',
  'udpa.annotations',
  'xds.annotations',
  'validate',
];

function findInput(file: string): string | undefined {
  return inputFolders.map((folder) => join(inputRoot, folder, file)).find((path) => existsSync(path));
}

/** Copies the root files and all they import into one folder: the package's own folders do not compile whole. */
function collectInputs(workspace: string): void {
  const pending = [...rootFiles];
  const seen = new Set<string>();
  for (let file = pending.pop(); file !== undefined; file = pending.pop()) {
    if (seen.has(file) || file.startsWith('google/protobuf/')) continue;
    seen.add(file);
    const source = findInput(file);
    if (source === undefined) throw new Error(`${file} is not in ${inputRoot}: run npm ci`);
    const target = join(workspace, file);
    mkdirSync(dirname(target), { recursive: true });
    cpSync(source, target);
    for (const match of readFileSync(source, 'utf8').matchAll(/^import (?:public )?"([^"]+)";/gm)) {
      if (match[1] !== undefined) pending.push(match[1]);
    }
  }
}

function listFiles(folder: string): Map<string, string> {
  const files = new Map<string, string>();
  if (!existsSync(folder)) return files;
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    files.set(relative(folder, path), readFileSync(path, 'utf8'));
  }
  return files;
}

const workspace = mkdtempSync(join(tmpdir(), 'ferry-proto-'));
try {
  const inputs = join(workspace, 'inputs');
  collectInputs(inputs);
  writeFileSync(join(inputs, 'buf.yaml'), 'version: v2\n');
  const generated = join(workspace, 'gen');
  const template = {
    version: 'v2',
    plugins: [
      {
        local: join(repositoryRoot, 'node_modules/.bin/protoc-gen-es'),
        out: generated,
        include_imports: true,
        opt: ['target=ts', 'import_extension=ts'],
        types,
        exclude_types: excludedTypes,
      },
    ],
  };
  const buf = join(repositoryRoot, 'node_modules/.bin/buf');
  execFileSync(buf, ['generate', '--template', JSON.stringify(template), inputs], { stdio: 'inherit' });
  const wanted = listFiles(generated);
  const present = listFiles(outputFolder);
  const changed = [...new Set([...wanted.keys(), ...present.keys()])].filter(
    (name) => wanted.get(name) !== present.get(name),
  );
  if (process.argv.includes('--check')) {
    if (changed.length > 0) {
      console.error(`proto/gen is out of date (${changed.join(', ')}): run npm run generate`);
      process.exitCode = 1;
    }
  } else {
    rmSync(outputFolder, { recursive: true, force: true });
    cpSync(generated, outputFolder, { recursive: true });
    console.log(`proto/gen: ${wanted.size} files, ${changed.length} changed`);
  }
} finally {
  rmSync(workspace, { recursive: true, force: true });
}
