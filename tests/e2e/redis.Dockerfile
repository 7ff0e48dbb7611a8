# A real Redis from Debian under the name that stacks/shop.yml asks for; the registry's image is not reachable.
ARG BASE=base:dev
FROM ${BASE}
USER redis
ENTRYPOINT ["redis-server", "--protected-mode", "no", "--save", ""]
EXPOSE 6379
