/** What the build knows about itself. */
export interface BuildInfo {
  readonly version: string;
  readonly revision: string;
  /** `Clean`, `Modified`, or `unknown` outside a build. */
  readonly status: string;
  readonly tag: string;
}

declare global {
  /** Put in place by the bundler (`agent/build.ts`); absent when the sources run. */
  var ferryBuild: BuildInfo | undefined;
}

const unbuilt: BuildInfo = { version: 'unknown', revision: 'unknown', status: 'unknown', tag: 'unknown' };

/** The build of this program; every part is `unknown` when the sources run directly. */
export function buildInfo(): BuildInfo {
  return globalThis.ferryBuild ?? unbuilt;
}
