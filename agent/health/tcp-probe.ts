import type { ProbeDestination, ProbeDialer } from './probe-dialer.ts';

/** Succeeds when a connection opens; it is closed at once. Throws ProbeError `connect`, or the signal's reason. */
export async function probeTcp(
  dialer: ProbeDialer,
  destination: ProbeDestination,
  options: { readonly signal: AbortSignal },
): Promise<void> {
  const socket = await dialer.dial(destination, options);
  const closed = Promise.withResolvers<void>();
  socket.once('close', () => closed.resolve());
  socket.destroy();
  await closed.promise;
}
