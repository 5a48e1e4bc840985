import type { ProxyConfig } from './proxy-config.ts';

type Labels = Readonly<Record<string, string>>;

const canonicalLabels = ['service.istio.io/canonical-name', 'app.kubernetes.io/name', 'app'];
/** `app` first, as it was before canonical names. */
const appLabels = canonicalLabels.toReversed();

/** Envoy's `node.cluster` (istio/istio `pkg/bootstrap/config.go`, getServiceCluster). */
export function nameServiceCluster(
  config: Pick<ProxyConfig, 'serviceCluster' | 'tracingServiceName'>,
  workload: { readonly labels: Labels; readonly workloadName: string; readonly namespace: string },
): string {
  const canonicalName = () =>
    firstLabel(workload.labels, canonicalLabels) ?? (workload.workloadName || 'istio-proxy');
  const chosen = (): string => {
    switch (config.tracingServiceName) {
      case 'CANONICAL_NAME_ONLY':
        return canonicalName();
      case 'CANONICAL_NAME_AND_NAMESPACE':
        return workload.namespace === '' ? canonicalName() : `${canonicalName()}.${workload.namespace}`;
      case 'APP_LABEL_AND_NAMESPACE':
        return 'istio-proxy';
      case undefined:
        return config.serviceCluster ?? '';
      default:
        return config.tracingServiceName satisfies never;
    }
  };
  const name = chosen();
  if (name !== '' && name !== 'istio-proxy') return name;
  const app = firstLabel(workload.labels, appLabels) ?? (workload.workloadName || undefined);
  if (app !== undefined) return `${app}.${workload.namespace}`;
  return workload.namespace === '' ? 'istio-proxy' : `istio-proxy.${workload.namespace}`;
}

function firstLabel(labels: Labels, names: readonly string[]): string | undefined {
  const name = names.find((candidate) => labels[candidate] !== undefined);
  return name === undefined ? undefined : labels[name];
}
