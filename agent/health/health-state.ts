/** What istiod is told about the workload. */
export type WorkloadHealth =
  | { readonly kind: 'healthy' }
  /** `reason`: why the last probe failed. */
  | { readonly kind: 'unhealthy'; readonly reason: string };

/** What one probe found. */
export type ProbeResult = WorkloadHealth;

/** Results in a row, and what was told last. */
export interface HealthCounts {
  readonly successCount: number;
  readonly failureCount: number;
  readonly told: 'nothing' | WorkloadHealth['kind'];
}

export interface HealthThresholds {
  readonly successThreshold: number;
  readonly failureThreshold: number;
}

export const initialHealthCounts: HealthCounts = { successCount: 0, failureCount: 0, told: 'nothing' };

/**
 * Counts one result. `event` is set when so many in a row say something else than what was told last, so the first
 * state is always told (istio/istio `pkg/istio-agent/health/health_check.go`).
 */
export function countResult(
  counts: HealthCounts,
  result: ProbeResult,
  thresholds: HealthThresholds,
): { readonly counts: HealthCounts; readonly event: WorkloadHealth | undefined } {
  const isHealthy = result.kind === 'healthy';
  const successCount = isHealthy ? counts.successCount + 1 : 0;
  const failureCount = isHealthy ? 0 : counts.failureCount + 1;
  const isEnough = isHealthy
    ? successCount >= thresholds.successThreshold
    : failureCount >= thresholds.failureThreshold;
  if (!isEnough || counts.told === result.kind) {
    return { counts: { ...counts, successCount, failureCount }, event: undefined };
  }
  return { counts: { successCount: 0, failureCount: 0, told: result.kind }, event: result };
}
