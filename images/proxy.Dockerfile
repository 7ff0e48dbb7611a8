# The sidecar. The build needs no network: fill the wheelhouse first, for the Python of BASE:
#   pip wheel --require-hashes -r requirements/runtime.txt -w build/wheelhouse
#   MESHPY_COMPILE=1 pip wheel --no-deps . -w build/wheelhouse
# The second needs a C compiler and Python's headers (python:3.12 has both); without them the sidecar's hot modules
# are not compiled and cost a third more CPU for a request.
ARG BASE=python:3.12-slim
FROM ${BASE} AS build
COPY build/wheelhouse /wheelhouse
COPY images/sbom.py /sbom.py
# Bytecode that carries a hash and no time, and one time for all files: the same wheels give the same layer.
RUN python3 -m venv /pip && python3 -m venv --without-pip /opt/meshpy \
    && /pip/bin/pip --python /opt/meshpy/bin/python install --no-compile --no-index --find-links=/wheelhouse swarm-meshpy \
    && PYTHONHASHSEED=0 /opt/meshpy/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/meshpy/lib \
    && /opt/meshpy/bin/python /sbom.py meshpy-proxy "$(ls /wheelhouse | sed -n 's/^swarm_meshpy-\([^-]*\)-.*/\1/p')" \
       /opt/meshpy/lib/python3*/site-packages > /opt/meshpy/sbom.cdx.json \
    && find /opt/meshpy -exec touch --no-dereference --date=@0 {} +

FROM ${BASE}
ARG VERSION=dev
ARG REVISION=unknown
COPY --from=build /opt/meshpy /opt/meshpy
# A new volume takes over contents, owner and mode of this: the cache of sidecars that keep one.
RUN mkdir -p /var/cache/meshpy && chown 65532:65532 /var/cache/meshpy && chmod 0700 /var/cache/meshpy
ENV PATH=/opt/meshpy/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
LABEL org.opencontainers.image.title="meshpy-proxy" \
      org.opencontainers.image.description="The sidecar of meshpy, the service mesh for Docker Swarm" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENTRYPOINT ["meshpy-proxy"]
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 CMD ["meshpy-proxy", "healthcheck"]
