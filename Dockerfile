# Ferry on top of a stock Istio proxy image: Envoy, its bootstrap files, the CA bundle and the iptables binaries stay.
# Use the default (not the distroless) variant of the base: the last step needs a shell.
#   docker build --build-arg BASE_IMAGE=docker.io/istio/proxyv2:<your Istio version> -t <registry>/ferry-proxyv2:<tag> .
ARG BASE_IMAGE=docker.io/istio/proxyv2:1.27.0
# Any image with Node 20 or newer and npm; the Node 24 that runs in the end comes from the npm packages of the lockfile.
ARG BUILD_IMAGE=docker.io/library/node:24-bookworm-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json ./
COPY agent agent
COPY cache cache
COPY metrics metrics
COPY proto proto
RUN node_modules/.bin/node agent/build.ts && \
    mkdir -p /out/lib /out/bin && \
    cp -L node_modules/.bin/node /out/lib/node && \
    cp dist/ferry-agent.cjs dist/start.cjs dist/ferry-agent.cache /out/lib/
COPY deploy/image/ferry-agent /out/bin/ferry-agent

FROM ${BASE_IMAGE}
USER 0
COPY --from=build /out/lib /usr/local/lib/ferry
COPY --from=build --chmod=0755 /out/bin/ferry-agent /usr/local/bin/ferry-agent
# The stock binary stays for istio-iptables, and tells the Istio version that the agent reports. Ferry's own version
# call fails the build when the base's libc is too old for Node.
RUN mv /usr/local/bin/pilot-agent /usr/local/bin/pilot-agent.stock && \
    ln -s ferry-agent /usr/local/bin/pilot-agent && \
    version=$(/usr/local/bin/pilot-agent.stock version --short) && \
    echo "${version#client version: }" >/usr/local/lib/ferry/istio-version && \
    /usr/local/bin/ferry-agent version --short
# Injection names the user of each container. A gateway with runAsRoot names none: its image is built with IMAGE_USER=0:0.
ARG IMAGE_USER=1337:1337
USER ${IMAGE_USER}
WORKDIR /
ENTRYPOINT ["/usr/local/bin/pilot-agent"]
