import { readBounded } from '../bounded-body.ts';
import type { ResolvedCredential } from '../credentials.ts';
import type { HttpResponse } from '../http-client.ts';
import { parseRetryAfter, StatusFailure } from '../retry.ts';
import type { OciReference } from './reference.ts';

/** Statuses after which a registry is asked again (google/go-containerregistry `pkg/v1/remote/options.go`). */
export function isRegistryStatusRetried(status: number): boolean {
  return [408, 429, 499, 500, 502, 503, 504, 522].includes(status);
}

const maxErrorAnswerBytes = 16 * 1024;

/** The failure that an unwanted answer means; frees it. `what` names what was asked for. */
export async function registryStatusFailure(
  response: HttpResponse,
  what: string,
  asked: { readonly reference: OciReference; readonly credential: ResolvedCredential },
): Promise<StatusFailure> {
  const { status } = response;
  const retryAfterMs = parseRetryAfter(response.header('retry-after'), Date.now());
  const codes = await readErrorCodes(response);
  const { credential, origin } = asked.credential;
  const isAuth = status === 401 || status === 403;
  const used =
    credential.kind === 'anonymous' ? `asked without credentials, ${origin}` : `credentials from ${origin}`;
  const details = [codes, isAuth ? used : ''].filter((text) => text !== '').join('; ');
  const { registry, repository } = asked.reference;
  const message = `${registry}/${repository} ${what}: status code ${status}${details === '' ? '' : ` (${details})`}`;
  return new StatusFailure(status, message, isRegistryStatusRetried(status) ? retryAfterMs : undefined);
}

/** The error codes of the distribution specification in an answer; the rest of it is not to be trusted in a log. */
async function readErrorCodes(response: HttpResponse): Promise<string> {
  try {
    const text = await readBounded(response.body, {
      maxSizeBytes: maxErrorAnswerBytes,
      what: 'the error answer',
    });
    const answer: unknown = JSON.parse(text.toString('utf8'));
    const errors: unknown =
      typeof answer === 'object' && answer !== null && 'errors' in answer ? answer.errors : [];
    const codes = (Array.isArray(errors) ? errors : []).map((error: unknown) =>
      typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '',
    );
    return codes
      .filter((code) => /^[A-Z_]{1,40}$/.test(code))
      .slice(0, 4)
      .join(', ');
  } catch {
    return '';
  }
}
