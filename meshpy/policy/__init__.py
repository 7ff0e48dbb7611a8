"""Policy documents -> frozen values.

`documents` reads YAML into trees that know their place, `reader` is the strict cursor over them, one module
per kind gives every field its documented meaning or refuses it, `policy_set` puts the documents together.
"""

from meshpy.policy.policy_set import Document, PolicySet, load, load_documents

__all__ = ["Document", "PolicySet", "load", "load_documents"]
