import type { RotationRule } from '../config/identity-config.ts';

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
