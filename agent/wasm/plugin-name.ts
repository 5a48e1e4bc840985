/** What istiod puts behind the name of a WasmPlugin (istio/istio `pilot/pkg/model/extensions.go`). */
const translationSuffix = '~istio-translated-wasmplugin';

/**
 * The name as people know it, `namespace.name`, from that of the resource, which istiod makes as
 * `extensions.istio.io/trafficextension/<namespace>.<name>~istio-translated-wasmplugin`. A name of another form, as
 * an EnvoyFilter may give it, loses what is before its last slash; it is never empty.
 */
export function shortPluginName(resourceName: string): string {
  const last = resourceName.slice(resourceName.lastIndexOf('/') + 1);
  const short = last.endsWith(translationSuffix) ? last.slice(0, -translationSuffix.length) : last;
  return short === '' ? resourceName : short;
}
