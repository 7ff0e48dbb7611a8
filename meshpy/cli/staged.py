"""`meshpy apply --staged`: policies that are judged, counted and shown, and decide nothing."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from meshpy.errors import DocumentError, Place, Problem

__all__ = ["staged_texts"]

_KINDS = {
    "NetworkPolicy": "StagedNetworkPolicy",
    "GlobalNetworkPolicy": "StagedGlobalNetworkPolicy",
}
_KUBERNETES = "networking.k8s.io/"
_CALICO = "projectcalico.org/v3"
DRY_RUN = "istio.io/dry-run"
SUFFIX = "-staged"


def staged_texts(texts: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The same documents in their staged form, beside which the enforced ones stay in force.

    Calico's and Kubernetes' network policies become their Staged kind; an AuthorizationPolicy becomes a dry
    run of another name, `<name>-staged`, since under its own it would replace the one that decides. Comments
    stay.

    Raises:
        DocumentError: a kind that has no staged form, or no readable YAML; all are named.
    """
    problems: list[Problem] = []
    made: list[dict[str, str]] = []
    for each in texts:
        yaml = YAML()
        yaml.preserve_quotes = True
        yaml.width = 4096
        try:
            documents = [document for document in yaml.load_all(each["text"]) if document is not None]
        except YAMLError as error:
            problems.append(Problem(Place(each["name"]), f"is no YAML: {str(error).splitlines()[0]}"))
            continue
        for document in documents:
            problem = _stage(document, each["name"])
            if problem is not None:
                problems.append(problem)
        if documents and not problems:
            text = io.StringIO()
            yaml.dump_all(documents, text)
            made.append({**each, "text": text.getvalue()})
    if problems:
        raise DocumentError(problems)
    return made


def _stage(document: Any, file: str) -> Problem | None:
    """Change one document in place; the reason when it has no staged form."""
    kind = document.get("kind") if isinstance(document, dict) else None
    metadata = document.get("metadata") if isinstance(document, dict) else None
    place = Place(file, (getattr(document, "lc", None) is not None and document.lc.line + 1) or 1)
    if not isinstance(metadata, dict):
        return Problem(place, "has no metadata", "metadata: {name: my-policy}")
    if str(kind).startswith("Staged"):
        return None
    if kind == "NetworkPolicy" and str(document.get("apiVersion", "")).startswith(_KUBERNETES):
        document["kind"], document["apiVersion"] = "StagedKubernetesNetworkPolicy", _CALICO
    elif kind in _KINDS:
        document["kind"] = _KINDS[kind]
    elif kind == "AuthorizationPolicy":
        metadata.setdefault("annotations", {})[DRY_RUN] = "true"
        name = str(metadata.get("name", ""))
        metadata["name"] = name if name.endswith(SUFFIX) else f"{name}{SUFFIX}"
    else:
        why = f"{kind} has no staged form: it decides where requests go or who is believed, or it does not"
        return Problem(place, why, "apply it with --canary, or try it with `meshpy policy diff`")
    return None
