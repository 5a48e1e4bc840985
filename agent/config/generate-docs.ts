/** Writes docs/configuration.md from the tables that drive parsing; with `--check` fails when the page is out of date. */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import {
  environmentPrefixes,
  environmentTable,
  type VariableDefinition,
  type VariableGroup,
} from './environment-table.ts';
import {
  type FlagDefinition,
  proxyFlags,
  requestFlags,
  rootFlags,
  versionFlags,
  waitFlags,
} from './flags.ts';
import { operatorCommands } from './operator-flags.ts';

const page = fileURLToPath(new URL('../../docs/configuration.md', import.meta.url));

/** Columns are padded: the repository's formatter wants it so. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, ...rows].map((cells) => cells.map((cell) => cell.replaceAll('|', '\\|')));
  const widths = head.map((_, column) => Math.max(3, ...lines.map((cells) => cells[column]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    `| ${widths.map((width, column) => (cells[column] ?? '').padEnd(width)).join(' | ')} |`;
  const [first = [], ...others] = lines;
  return [line(first), line(widths.map((width) => '-'.repeat(width))), ...others.map(line)].join('\n');
}

function code(text: string): string {
  return text === '' ? '' : `\`${text}\``;
}

function flagTable(flags: readonly FlagDefinition[]): string {
  return table(
    ['flag', 'type', 'default', 'meaning'],
    flags.map((flag) => [
      code(`${flag.short === undefined ? '' : `-${flag.short}, `}--${flag.name}`),
      flag.type,
      code(flag.default),
      flag.meaning,
    ]),
  );
}

function variableTable(group: VariableGroup): string {
  return table(
    ['variable', 'type', 'default', 'meaning'],
    Object.entries<VariableDefinition>(environmentTable)
      .filter(([, definition]) => definition.group === group)
      .map(([name, definition]) => [
        code(name),
        definition.type.replace('optional ', ''),
        code(definition.default ?? ''),
        [
          definition.meaning,
          ...(definition.origin === 'ours' ? ['Not a setting of the stock agent.'] : []),
          ...(definition.isSecret === true ? ['A secret: never logged.'] : []),
          ...(definition.isKeptFromEnvoy === true ? ['Not passed on to Envoy.'] : []),
        ].join(' '),
      ]),
  );
}

function render(): string {
  const groups = [
    ...new Set(Object.values<VariableDefinition>(environmentTable).map((definition) => definition.group)),
  ];
  return `${[
    '# Configuration',
    'Generated from the tables in `agent/config` by `npm run generate`; do not edit.',
    'The agent is configured like the stock agent: by environment variables, flags, ProxyConfig and annotations of the pod. ' +
      'Everything is read once at start. All errors are reported together, each with its name, what is wrong and what to do; ' +
      'the exit code is then 255. A variable whose value does not parse is a warning, and its default counts. ' +
      'Relative paths start at the working directory, which is `/` in the image.',
    '## ProxyConfig',
    'Layers, a later one over an earlier one: built-in defaults, `defaultConfig` of the mesh config file (`--meshConfig`), ' +
      '`PROXY_CONFIG`, annotation `proxy.istio.io/config` in `./etc/istio/pod/annotations`. ' +
      'A field is replaced as a whole, but `proxyMetadata` is merged by key. ' +
      'Then `--concurrency` or `ISTIO_CPU_LIMIT`, then annotations `sidecar.istio.io/discoveryAddress` and `status.sidecar.istio.io/port`.',
    '## Environment variables',
    'Booleans are `1 t T TRUE true True 0 f F FALSE false False`, durations have units (`1h30m`, `100ms`), file modes are octal.',
    ...groups.flatMap((group) => [`### ${group}`, variableTable(group)]),
    '### By prefix',
    table(
      ['prefix', 'meaning'],
      environmentPrefixes.map(({ prefix, meaning, isKeptFromEnvoy }) => [
        code(`${prefix}*`),
        isKeptFromEnvoy === true ? `${meaning} Not passed on to Envoy.` : meaning,
      ]),
    ),
    '## Flags',
    'Unknown flags of `proxy` are ignored with one warning, so that older templates keep working.',
    '### Every command',
    flagTable(rootFlags),
    '### proxy',
    flagTable(proxyFlags),
    '### wait',
    flagTable(waitFlags),
    '### request',
    flagTable(requestFlags),
    '### version',
    flagTable(versionFlags),
    ...operatorCommands.flatMap(({ words, flags }) => [`### ${words}`, flagTable(flags)]),
  ].join('\n\n')}\n`;
}

const rendered = render();
if (process.argv.includes('--check')) {
  const present = await readFile(page, 'utf8').catch(() => '');
  if (present !== rendered) {
    console.error('docs/configuration.md is out of date: run npm run generate');
    process.exitCode = 1;
  }
} else {
  await writeFile(page, rendered);
}
