/** Something this machine lacks. The message says what failed, why, and what to do. */
export class SetupError extends Error {
  name = 'SetupError';
}

/** The last lines of a tool's output, indented, for an error message. */
export function outputTail(output, lineCount = 15) {
  const lines = output.trimEnd().split('\n').slice(-lineCount);
  return lines.map((line) => `    ${line}`).join('\n');
}

/** True when a tool's output says that the network, not the request, is the trouble. */
export function looksOffline(output) {
  return /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|Temporary failure in name resolution|Name or service not known|Failed to establish a new connection|Network is unreachable|Connection refused|ConnectTimeoutError|Read timed out/i.test(
    output,
  );
}
