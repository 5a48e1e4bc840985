/** Where the workload runs, as Envoy's `node.locality` has it. Unknown parts are absent. */
export interface Locality {
  readonly region?: string;
  readonly zone?: string;
  readonly sub_zone?: string;
}

type Labels = Readonly<Record<string, string>>;

/** The locality label in its normal form `region/zone/sub_zone`; undefined without a label. Kubernetes labels hold no `/`, so dots stand for it. */
export function findLocalityText(labels: Labels): string | undefined {
  const label = labels['topology.istio.io/locality'] ?? labels['istio-locality'] ?? '';
  if (label === '') return undefined;
  return label.includes('/') ? label : label.replaceAll('.', '/');
}

/** Splits `region/zone/sub_zone`; empty parts are left out. */
export function parseLocality(text: string | undefined): Locality {
  const [region, zone, subZone] = (text ?? '').split('/');
  return {
    ...(region ? { region } : {}),
    ...(zone ? { zone } : {}),
    ...(subZone ? { sub_zone: subZone } : {}),
  };
}
