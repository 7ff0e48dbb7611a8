# The services of stacks/shop.yml, which know nothing of the mesh. Wheelhouse: see images/proxy.Dockerfile.
ARG BASE=python:3.12-slim
FROM ${BASE} AS build
COPY build/wheelhouse /wheelhouse
RUN python3 -m venv /pip && python3 -m venv --without-pip /opt/meshpy \
    && /pip/bin/pip --python /opt/meshpy/bin/python install --no-index --find-links=/wheelhouse swarm-meshpy

FROM ${BASE}
COPY --from=build /opt/meshpy /opt/meshpy
ENV PATH=/opt/meshpy/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
LABEL org.opencontainers.image.title="meshpy-shop" \
      org.opencontainers.image.description="The demo shop of meshpy" \
      org.opencontainers.image.licenses="Apache-2.0"
