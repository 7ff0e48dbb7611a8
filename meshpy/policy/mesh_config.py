"""MeshConfig: what holds for the whole mesh, under the names of Istio's MeshConfig.

Istio keeps it in a ConfigMap. Here it is a document like the others: one in a mesh, reviewed and rolled back
with the policies that lean on it.
Source: istio.io/latest/docs/reference/config/istio.mesh.v1alpha1.
"""

from __future__ import annotations

from meshpy.policy.authn_kinds import MeshConfigDoc
from meshpy.policy.kinds import Meta
from meshpy.policy.reader import Cursor

__all__ = ["mesh_config"]

_MOST_PROXIES = 16


def mesh_config(meta: Meta, spec: Cursor) -> MeshConfigDoc:
    fields = spec.fields(("defaultConfig",))
    proxies = 0
    defaults = fields.get("defaultConfig")
    if defaults is not None:
        topology = defaults.fields(("gatewayTopology",)).get("gatewayTopology")
        if topology is not None:
            known = topology.fields(("numTrustedProxies",))
            proxies = known.integer("numTrustedProxies", 0, _MOST_PROXIES) or 0
    return MeshConfigDoc(meta, proxies)
