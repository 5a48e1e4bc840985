import type { InterceptedStream, InterceptorFactory, StreamInterceptor } from './interceptor.ts';

/**
 * Opens an interceptor for each type on one stream. What one throws is a defect of the agent: it goes to `onError`,
 * which ends this stream, and never further.
 */
export function openInterceptors(
  factories: readonly InterceptorFactory[],
  stream: InterceptedStream,
  onError: (error: unknown) => void,
): ReadonlyMap<string, StreamInterceptor> {
  const interceptors = new Map<string, StreamInterceptor>();
  const guard = (action: () => void): void => {
    try {
      action();
    } catch (error) {
      onError(error);
    }
  };
  for (const factory of factories) {
    guard(() => {
      const interceptor = factory.open(stream);
      interceptors.set(factory.typeUrl, {
        onResponse: (message) => guard(() => interceptor.onResponse(message)),
        onRequest: (message) => guard(() => interceptor.onRequest(message)),
        onLdsRequested: () => guard(() => interceptor.onLdsRequested?.()),
        onListenerRequest: (message) => guard(() => interceptor.onListenerRequest?.(message)),
        close: () => guard(() => interceptor.close()),
      });
    });
  }
  return interceptors;
}
