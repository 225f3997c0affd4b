# syntax=docker/dockerfile:1
#
# The sidecar: Python, the ten packages of its lock, its own code. No shell, no package manager, no build tools.
#
#   docker buildx build -f images/sidecar.Dockerfile --sbom=true --provenance=true \
#     --build-arg SOURCE_DATE_EPOCH="$(git log -1 --pretty=%ct)" --output type=image,name=catalyst-sidecar,rewrite-timestamp=true .
#
# Debian 12 twice, so that both have the same Python. Name both by digest where a build must give the same bytes next year.
ARG BUILDER=debian:12-slim
ARG RUNTIME=gcr.io/distroless/python3-debian12:nonroot

FROM ${BUILDER} AS builder
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
RUN python3 -m venv /build
RUN python3 -m venv --without-pip /app
COPY requirements-sidecar.lock /src/
RUN /build/bin/pip --python /app/bin/python install --require-hashes --no-deps --only-binary :all: --no-compile --no-cache-dir -r /src/requirements-sidecar.lock
COPY sidecar /app/lib/python3.11/site-packages/sidecar
# Nothing can be written where it runs; and bytecode that is checked by hash is the same in every build.
RUN /app/bin/python -m compileall -q --invalidation-mode unchecked-hash /app/lib

FROM ${RUNTIME}
COPY --from=builder /app /app
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1
WORKDIR /
USER 65532:65532
EXPOSE 8787 9787
ENTRYPOINT ["/app/bin/python", "-m", "sidecar"]
