# A real Redis from Debian under the name that stacks/shop.yml asks for; the registry's image is not reachable.
# As in that image, the command is the whole command line and protected mode is off.
ARG BASE=base:dev
FROM ${BASE}
USER redis
ENTRYPOINT ["/bin/sh", "-c", "exec \"$@\" --protected-mode no", "--"]
CMD ["redis-server"]
EXPOSE 6379
