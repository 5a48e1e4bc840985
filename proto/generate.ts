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

/**
 * Fields that Envoy has and the package's older copy has not. Without them the JSON form (TypedStruct) of a config
 * that uses them could not be read. Numbers: envoyproxy/envoy `api/envoy/extensions/wasm/v3/wasm.proto`.
 */
const overlays: Readonly<Record<string, (text: string) => string>> = {
  'envoy/extensions/wasm/v3/wasm.proto': (text) =>
    insertAfter(text, 'message PluginConfig {', [
      '  enum FailurePolicy {',
      '    UNSPECIFIED = 0;',
      '    FAIL_RELOAD = 1;',
      '    FAIL_CLOSED = 2;',
      '    FAIL_OPEN = 3;',
      '  }',
      '  message ReloadConfig {',
      '    config.core.v3.BackoffStrategy backoff = 1;',
      '  }',
      '  FailurePolicy failure_policy = 7;',
      '  ReloadConfig reload_config = 8;',
      '  google.protobuf.BoolValue allow_on_headers_stop_iteration = 9;',
    ]).replace(
      'import "google/protobuf/any.proto";',
      'import "envoy/config/core/v3/backoff.proto";\nimport "google/protobuf/any.proto";\nimport "google/protobuf/wrappers.proto";',
    ),
};

function insertAfter(text: string, line: string, lines: readonly string[]): string {
  if (!text.includes(line)) throw new Error(`the overlay does not fit its input: no line "${line}"`);
  return text.replace(line, [line, ...lines].join('\n'));
}

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
    const text = overlays[file]?.(readFileSync(source, 'utf8')) ?? readFileSync(source, 'utf8');
    writeFileSync(target, text);
    for (const match of text.matchAll(/^import (?:public )?"([^"]+)";/gm)) {
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
        opt: ['target=js+dts', 'import_extension=js'],
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
