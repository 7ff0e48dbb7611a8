"""How long the exact diff takes: 200 policies over 60 services, a tenth or all of them changed.

Run: `python tests/bench/policy_diff.py`. It prints; it asserts nothing.
"""

from __future__ import annotations

import gc
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from meshpy.analysis.diff import diff
from meshpy.compile import compile_mesh
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import Inventory, Port
from tests.helpers.policies import document, loaded, service

SERVICES, POLICIES = 60, 200


def inventory():
    names = [f"s{n}" for n in range(SERVICES)]
    made = [
        service(name, ports=(Port(8080, Protocol.HTTP, published=n == 0),)) for n, name in enumerate(names)
    ]
    return Inventory({one.name: one for one in made})


def policies(seed, changed):
    texts = []
    for number in range(POLICIES):
        source = random.Random(number * 2 + (number < changed) + seed)
        callee, callers = number % SERVICES, [f"s{source.randrange(SERVICES)}" for _ in range(3)]
        path = f"/api/v{source.randrange(1, 4)}/r{source.randrange(9)}"
        if number % 4 == 3:
            spec = f"hosts: [s{callee}]\nhttp:\n- match: [{{uri: {{prefix: {path}}}}}]\n"
            spec += f"  route: [{{destination: {{host: s{callers[0][1:]}}}}}]\n"
            spec += f"- route: [{{destination: {{host: s{callee}}}}}]"
            texts.append(document("VirtualService", spec, f"v{number}"))
            continue
        action = "DENY" if number % 4 == 2 else "ALLOW"
        spec = f"selector: {{matchLabels: {{app: s{callee}}}}}\naction: {action}\n"
        spec += f"rules: [{{from: [{{source: {{serviceAccounts: {callers}}}}}], "
        spec += (
            f"to: [{{operation: {{methods: [GET, POST], paths: [{path}, {path}/*, '{path}/{{*}}/x']}}}}]}}]"
        )
        texts.append(document("AuthorizationPolicy", spec, f"a{number}"))
    return loaded(*texts)


def main():
    gc.freeze()
    gc.disable()  # as the command does
    stock = inventory()
    for changed in (POLICIES // 10, POLICIES):
        old, new = (
            compile_mesh(stock, policies(1, count), trust_domain="cluster.local", revision=0)
            for count in (0, changed)
        )
        begun = time.process_time()
        found = diff(old, new)
        spent = time.process_time() - begun
        print(
            f"{POLICIES} policies, {changed} changed, {SERVICES} services: {spent:.2f} s CPU,"
            f" {found.flows} flows, {found.classes} classes, {len(found.changes)} changes,"
            f" {len(found.undetermined)} undetermined"
        )


if __name__ == "__main__":
    main()
