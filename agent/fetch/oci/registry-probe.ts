import { timeoutSignal } from '../../clock.ts';
import type { HttpResponse } from '../http-client.ts';
import { isTlsAbsent } from '../network-failure.ts';
import { FetchError } from '../types.ts';

/** How long TLS may take at a host that may also speak plain HTTP, before that is tried. */
const tlsProbeMs = 3_000;

/** Usual answer of a TLS port to plain http. */
const badRequest = 400;

/** Asks a registry for its first answer at an origin, `https://host` or `http://host`. */
export type RegistryPing = (origin: string, signal: AbortSignal) => Promise<HttpResponse>;

/**
 * Finds out whether a registry that may be spoken to in clear has TLS, by its first answer over https, or over http
 * when TLS is not there. Throws FetchError.
 */
export async function probeRegistry(
  registry: string,
  ping: RegistryPing,
  options: { readonly signal: AbortSignal },
): Promise<{ readonly origin: string; readonly response: HttpResponse }> {
  const { signal } = options;
  const pinged = async (origin: string, pingSignal: AbortSignal) => ({
    origin: new URL(origin).origin,
    response: await ping(origin, pingSignal),
  });
  const overTls = `https://${registry}`;
  let tlsError: FetchError;
  try {
    return await pinged(overTls, AbortSignal.any([signal, timeoutSignal(tlsProbeMs)]));
  } catch (error) {
    if (!(error instanceof FetchError) || signal.aborted) throw error;
    if (!isTlsAbsent(error) && error.code !== 'timeout') throw error;
    tlsError = error;
  }
  try {
    const plain = await pinged(`http://${registry}`, signal);
    if (plain.response.status !== badRequest) return plain;
    await plain.response.discard();
  } catch (error) {
    if (!(error instanceof FetchError) || signal.aborted) throw error;
    const both = `${tlsError.message}; and over plain http: ${error.message}`;
    if (tlsError.code !== 'timeout') throw new FetchError(error.code, both, { cause: error });
  }
  // It is TLS, and slow.
  return pinged(overTls, signal);
}
