import { isIP, isIPv4 } from 'node:net';
import { join, resolve } from 'node:path';
import type { WasmConfig } from './agent-config.ts';
import { type ConfigReport, quoteValue } from './config-report.ts';
import type { EnvironmentRecord, EnvironmentValues } from './environment.ts';

const hourMs = 3_600_000;

/** Wasm settings from the environment (istio/istio `pkg/wasm`, `pilot/cmd/pilot-agent/options/options.go`). */
export function readWasmConfig(
  values: EnvironmentValues,
  environment: EnvironmentRecord,
  root: string,
  report: ConfigReport,
): WasmConfig {
  const insecureRegistries =
    values.WASM_INSECURE_REGISTRIES === '' ? [] : values.WASM_INSECURE_REGISTRIES.split(',');
  if (insecureRegistries.includes('*')) {
    report.warn(
      'WASM_INSECURE_REGISTRIES: * turns certificate verification off for every registry, also those with ' +
        'credentials; list the hosts instead',
    );
  }
  const isConversionEnabled = values.ISTIO_AGENT_ENABLE_WASM_REMOTE_LOAD_CONVERSION;
  if (values.WASM_POLICY_FILE !== '' && !isConversionEnabled) {
    report.error(
      'WASM_POLICY_FILE',
      'has no effect while ISTIO_AGENT_ENABLE_WASM_REMOTE_LOAD_CONVERSION is false: extension configs are relayed untouched',
      'set that to true, or unset WASM_POLICY_FILE',
    );
  }
  return {
    isConversionEnabled,
    dataFolder: resolve(root, values.WASM_DATA_DIR || '/var/lib/istio/data'),
    policyFile: values.WASM_POLICY_FILE === '' ? undefined : resolve(root, values.WASM_POLICY_FILE),
    insecureRegistries,
    moduleExpiryMs: positiveMs('WASM_MODULE_EXPIRY', values.WASM_MODULE_EXPIRY, 24 * hourMs, report),
    purgeIntervalMs: positiveMs('WASM_PURGE_INTERVAL', values.WASM_PURGE_INTERVAL, hourMs, report),
    httpRequestTimeoutMs: positiveMs(
      'WASM_HTTP_REQUEST_TIMEOUT',
      values.WASM_HTTP_REQUEST_TIMEOUT,
      5000,
      report,
    ),
    httpMaxAttemptCount: atLeastOne(values.WASM_HTTP_REQUEST_MAX_RETRIES, report),
    maxModuleBytes: readSizeCap(values.ISTIO_WASM_MAX_BINARY_SIZE_BYTES, report),
    blockedCidrs: readCidrs(values.BLOCKED_CIDRS_IN_WASM_FETCH, report),
    registryCredentials: {
      configPaths: credentialPaths(values).map((path) => resolve(root, path)),
      inlineConfig: values.DOCKER_AUTH_CONFIG || undefined,
    },
    outboundProxy: {
      http: values.HTTP_PROXY || environment['http_proxy'] || undefined,
      https: values.HTTPS_PROXY || environment['https_proxy'] || undefined,
      noProxy: values.NO_PROXY || environment['no_proxy'] || '',
    },
  };
}

/** Zero stands for a default in the stock agent; a negative time makes no sense. */
function positiveMs(name: string, valueMs: number, fallbackMs: number, report: ConfigReport): number {
  if (valueMs < 0) report.warn(`${name}: is negative; using ${fallbackMs / 1000}s`);
  return valueMs > 0 ? valueMs : fallbackMs;
}

function atLeastOne(count: number, report: ConfigReport): number {
  if (count >= 1) return count;
  report.warn(`WASM_HTTP_REQUEST_MAX_RETRIES: ${count} would allow no attempt at all; using 1`);
  return 1;
}

function readSizeCap(sizeBytes: number, report: ConfigReport): number {
  if (sizeBytes > 0) return sizeBytes;
  report.warn(`ISTIO_WASM_MAX_BINARY_SIZE_BYTES: ${sizeBytes} would refuse every module; using 268435456`);
  return 268_435_456;
}

function readCidrs(list: string, report: ConfigReport): readonly string[] {
  const items = list.split(',').map((item) => item.trim());
  return items.filter((item) => {
    if (item === '' || isCidr(item)) return item !== '';
    report.warn(
      `BLOCKED_CIDRS_IN_WASM_FETCH: ${quoteValue(item)} is not an address range such as 10.0.0.0/8; ignored`,
    );
    return false;
  });
}

function isCidr(text: string): boolean {
  const [address = '', length = '', ...rest] = text.split('/');
  if (rest.length > 0 || isIP(address) === 0 || !/^\d{1,3}$/.test(length)) return false;
  return Number(length) <= (isIPv4(address) ? 32 : 128);
}

/** Candidate files in the order of the stock agent's registry library. */
function credentialPaths(values: EnvironmentValues): readonly string[] {
  const dockerFolder = values.DOCKER_CONFIG || (values.HOME === '' ? '' : join(values.HOME, '.docker'));
  return [
    ...(dockerFolder === '' ? [] : [join(dockerFolder, 'config.json')]),
    ...(values.REGISTRY_AUTH_FILE === '' ? [] : [values.REGISTRY_AUTH_FILE]),
    ...(values.XDG_RUNTIME_DIR === '' ? [] : [join(values.XDG_RUNTIME_DIR, 'containers', 'auth.json')]),
  ];
}
