# The control plane. The wheelhouse is filled as for images/proxy.Dockerfile.
ARG BASE=python:3.12-slim
FROM ${BASE} AS build
COPY build/wheelhouse /wheelhouse
RUN python3 -m venv /pip && python3 -m venv --without-pip /opt/meshpy \
    && /pip/bin/pip --python /opt/meshpy/bin/python install --no-index --find-links=/wheelhouse swarm-meshpy

FROM ${BASE}
COPY --from=build /opt/meshpy /opt/meshpy
ENV PATH=/opt/meshpy/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
LABEL org.opencontainers.image.title="meshpy-control-plane" \
      org.opencontainers.image.description="The control plane of meshpy, the service mesh for Docker Swarm" \
      org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["meshpy-control-plane"]
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 CMD ["meshpy-control-plane", "healthcheck"]
