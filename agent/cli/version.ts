import { type BuildInfo } from './build-info.ts';
import { CommandError } from './command-error.ts';

/** `version`: the build in the forms of the stock command (istio/istio `pkg/version/cobra.go`). Throws CommandError. */
export function formatVersion(
  build: BuildInfo,
  options: { readonly isShort: boolean; readonly output: string },
): string {
  const fields = {
    version: build.version,
    revision: build.revision,
    // The stock key; what it holds here is the runtime the agent is made for.
    golang_version: `node ${process.version}`,
    status: build.status,
    tag: build.tag,
  };
  switch (options.output) {
    case '':
      return options.isShort
        ? `client version: ${fields.version}\n`
        : `client version: version.BuildInfo{Version:"${fields.version}", GitRevision:"${fields.revision}", ` +
            `GolangVersion:"${fields.golang_version}", BuildStatus:"${fields.status}", GitTag:"${fields.tag}"}\n`;
    case 'json':
      return `${JSON.stringify({ clientVersion: fields }, undefined, 2)}\n`;
    case 'yaml': {
      const lines = Object.entries(fields)
        .sort(([first], [second]) => (first < second ? -1 : 1))
        .map(([key, value]) => `  ${key}: ${JSON.stringify(value)}\n`);
      return `clientVersion:\n${lines.join('')}\n`;
    }
    default:
      throw new CommandError(["--output must be 'yaml' or 'json'"]);
  }
}
