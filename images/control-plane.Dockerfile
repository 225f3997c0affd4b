# syntax=docker/dockerfile:1
#
# Control plane, worker, injector and the command line: `docker run IMAGE worker`. No shell, no package manager, no build tools.
# `catalyst backup` and `restore` want PostgreSQL's own programs, which are not in it.
#
#   docker buildx build -f images/control-plane.Dockerfile --sbom=true --provenance=true \
#     --build-arg SOURCE_DATE_EPOCH="$(git log -1 --pretty=%ct)" --output type=image,name=catalyst-control-plane,rewrite-timestamp=true .
#
# Debian 12 twice, so that both have the same Python. Name both by digest where a build must give the same bytes next year.
ARG BUILDER=debian:12-slim
ARG RUNTIME=gcr.io/distroless/python3-debian12:nonroot

FROM ${BUILDER} AS builder
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
RUN python3 -m venv /build
RUN python3 -m venv --without-pip /app
COPY requirements-build.lock requirements-control-plane.lock /src/
RUN /build/bin/pip install --require-hashes --no-deps --only-binary :all: --no-cache-dir -r /src/requirements-build.lock
RUN /build/bin/pip --python /app/bin/python install --require-hashes --no-deps --only-binary :all: --no-compile --no-cache-dir -r /src/requirements-control-plane.lock
COPY pyproject.toml README.md LICENSE /src/
COPY sidecar /src/sidecar
COPY control_plane /src/control_plane
RUN /build/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels /src
RUN /build/bin/pip --python /app/bin/python install --no-deps --no-index --no-compile --find-links /wheels catalyst-auth
# Nothing can be written where it runs; and bytecode that is checked by hash is the same in every build.
RUN /app/bin/python -m compileall -q --invalidation-mode unchecked-hash /app/lib

FROM ${RUNTIME}
COPY --from=builder /app /app
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1
WORKDIR /
USER 65532:65532
EXPOSE 8080 9080
ENTRYPOINT ["/app/bin/python", "-m", "control_plane"]
CMD ["control-plane"]
