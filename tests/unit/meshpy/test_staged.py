"""Documents in their staged form: the same rules, deciding nothing, beside those in force."""

import pytest

from meshpy.cli.staged import staged_texts
from meshpy.errors import DocumentError
from meshpy.policy import load

FILE = """\
# why it is there
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only-web, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  action: ALLOW
  rules: [{from: [{source: {principals: ["cluster.local/ns/shop/sa/web"]}}]}]
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: deny-all, namespace: shop}
spec: {selector: all(), types: [Ingress], ingress: [{action: Deny}]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: base}
spec: {selector: all(), types: [Ingress], ingress: [{action: Allow}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
"""


def test_each_kind_becomes_its_staged_form_and_reads_again():
    (made,) = staged_texts([{"name": "a.yaml", "text": FILE}])
    assert "# why it is there" in made["text"]
    documents = load([(made["name"], made["text"])]).documents
    assert [(each.kind, each.name) for each in documents] == [
        ("AuthorizationPolicy", "only-web-staged"),
        ("StagedNetworkPolicy", "deny-all"),
        ("StagedGlobalNetworkPolicy", "base"),
        ("StagedKubernetesNetworkPolicy", "closed"),
    ]
    assert load([(made["name"], made["text"])]).authorization_policies[0].dry_run


def test_what_is_staged_stays_as_it_is():
    once = staged_texts([{"name": "a.yaml", "text": FILE}])
    assert staged_texts(once) == once


def test_a_kind_without_a_staged_form_is_named_with_what_to_do():
    text = (
        FILE
        + "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec: {}\n"
    )
    with pytest.raises(DocumentError, match=r"VirtualService has no staged form.*--canary"):
        staged_texts([{"name": "a.yaml", "text": text}])


@pytest.mark.parametrize("text", ["a: [", "- 1", "kind: NetworkPolicy"])
def test_what_is_no_policy_is_refused(text):
    with pytest.raises(DocumentError, match=r"a\.yaml"):
        staged_texts([{"name": "a.yaml", "text": text}])
