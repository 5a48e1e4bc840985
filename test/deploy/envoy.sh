#!/bin/sh
# Stands where Istio's image has its own build of Envoy, and starts the plain build (envoy.plain). That one lacks an
# extension of Istio's, which the bootstrap of a waypoint names: it is taken out, nothing else of what the agent wrote.
sed -i 's/{"name":"metadata_discovery","typed_config":{[^{}]*{"config_source":{"ads":{}}}}},//' /etc/istio/proxy/envoy-rev.json
exec /usr/local/bin/envoy.plain "$@"
