"""The egress gateway as a stack of its own: its secret, its deployment."""

from __future__ import annotations

from meshpy.cli.docker import Docker
from meshpy.cli.engine_api import EngineApi
from meshpy.cli.trust import ca_config
from meshpy.client import Operator
from meshpy.demo.stacks import stacks_folder
from meshpy.inject.sidecar import join_secret

__all__ = ["GATEWAY", "deploy_gateway"]

GATEWAY = "mesh-egress"
SERVICE = "gateway"


def deploy_gateway(operator: Operator, image: str, trust_domain: str, replicas: int) -> None:
    """Deploy stacks/egress-gateway.yml as `mesh-egress`; what is right stays as it is."""
    docker = Docker()
    name = join_secret(GATEWAY, SERVICE)
    if name not in docker.names("secret"):
        service = f"{GATEWAY}/{SERVICE}"
        token = operator.call("POST", "/v1/join-tokens", {"service": service})["token"]
        docker.create("secret", name, token, {"meshpy.service": service})
    env = {
        "MESHPY_PROXY_IMAGE": image,
        "MESHPY_TRUST_DOMAIN": trust_domain,
        "MESHPY_GATEWAY_REPLICAS": str(replicas),
        "MESHPY_GATEWAY_SECRET": name,
        "MESHPY_CA_CONFIG": ca_config(EngineApi(), docker, operator),
    }
    file = str(stacks_folder() / "egress-gateway.yml")
    Docker(env=env).run("stack", "deploy", "--resolve-image", "never", "-c", file, GATEWAY)
