import { type ConfigReport, quoteValue } from './config-report.ts';

/** What TLS is limited to (istio/istio `pkg/model/fips.go`). */
const compliancePolicies = ['fips-140-2', 'fips-140-3', 'pqc'] as const;
export type CompliancePolicy = (typeof compliancePolicies)[number];

/**
 * `COMPLIANCE_POLICY`; undefined: none. An unknown one is an error: whoever set it believes that connections are
 * limited, and they would not be.
 */
export function readCompliancePolicy(text: string, report: ConfigReport): CompliancePolicy | undefined {
  const policy = compliancePolicies.find((known) => known === text);
  if (policy === undefined && text !== '') {
    const remedy = `use ${compliancePolicies.join(', ')}, or leave it empty`;
    report.error('COMPLIANCE_POLICY', `${quoteValue(text)} is not a policy of this agent`, remedy);
  }
  return policy;
}
