# docker build --target agent        -t compass-runtime-agent:dev .
# docker build --target mock-compass -t compass-runtime-agent-mock-compass:dev .
#
# The agent's image has no shell, no package manager and no pip: release/image tells what is in it. A release replaces the
# tag of BASE_IMAGE by the digest that the tag names: `make image BASE_IMAGE="$(make base-image)"`.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1
RUN python3 -m venv /build && python3 -m venv --without-pip /app/venv
WORKDIR /source
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN /build/bin/pip install --quiet --require-hashes -r requirements/build.txt \
 && /build/bin/pip --python /app/venv/bin/python install --quiet --require-hashes -r requirements/runtime.txt
COPY release/image/*.py image/
RUN python3 image/trim.py /app/venv
COPY pyproject.toml README.md LICENSE ./
COPY workqueue workqueue
COPY informers informers
COPY controller controller
COPY kubectl_compass kubectl_compass
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /build/bin/pip --python /app/venv/bin/python install --quiet --no-deps /wheels/*.whl \
 && ln -s venv/bin/compass-runtime-agent /app/compass-runtime-agent \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /app
ARG VERSION=dev
RUN python3 image/rootfs.py /app /rootfs && python3 image/sbom.py /app/venv /rootfs "${VERSION}"

FROM ${BASE_IMAGE} AS mock-compass
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /mock
COPY requirements/e2e.txt ./
RUN python3 -m venv venv && venv/bin/pip install --quiet --no-cache-dir --require-hashes -r e2e.txt
COPY e2e/__init__.py e2e/pki.py e2e/
COPY e2e/mock_compass e2e/mock_compass
# Where Deployments of the Go agent look for it.
COPY e2e/kyma/stand_in.py /app/compass-runtime-agent
USER 65535:65535
CMD ["/mock/venv/bin/python", "-m", "e2e.mock_compass"]

FROM scratch AS agent
ARG BASE_IMAGE
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="compass-runtime-agent" \
      org.opencontainers.image.description="Pairs a Kubernetes cluster with Compass and keeps its Applications equal to what Compass assigns to it." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /rootfs /
# The path is for `kubectl exec ... -- compass-runtime-agent status`. One arena of malloc saves 1.5 MiB.
ENV PATH=/app LANG=C.UTF-8 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MALLOC_ARENA_MAX=1 \
    PYTHONWARNINGS="ignore:Unable to find acceptable character detection" \
    BUILD_VERSION=${VERSION} BUILD_REVISION=${REVISION}
USER 65535:65535
EXPOSE 8080 8090
# No ENTRYPOINT, and this path: Deployments of the agent in Go name it as the first of their args.
CMD ["/app/compass-runtime-agent"]
