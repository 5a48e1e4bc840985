/** When a certificate is replaced, relative to its life. */
export interface RotationRule {
  /** Part of the life that is left at rotation, from 0 to 1. */
  readonly graceRatio: number;
  /** The ratio is moved up or down by up to this much, so that the pods of a cluster do not renew together. */
  readonly graceRatioJitter: number;
}

/**
 * The time at which a certificate is replaced, epoch ms: `notAfter - ratio * life`, where the jitter has moved the
 * ratio, and not before now (`security/pkg/nodeagent/cache/secretcache.go`, rotateTime). `random` is in [0, 1).
 */
export function rotationTimeMs(
  certificate: { readonly issuedAtMs: number; readonly notAfterMs: number },
  rule: RotationRule,
  options: { readonly nowMs: number; readonly random: () => number },
): number {
  const sign = options.random() < 0.5 ? -1 : 1;
  const moved = rule.graceRatio + sign * options.random() * rule.graceRatioJitter;
  const ratio = Math.min(1, Math.max(0, moved));
  const lifeMs = certificate.notAfterMs - certificate.issuedAtMs;
  return Math.max(options.nowMs, certificate.notAfterMs - ratio * lifeMs);
}
