"""Random policy documents and requests over the little shop of `helpers.policies`, for proofs by trying."""

from __future__ import annotations

import random
from dataclasses import dataclass

from meshpy.compile import compile_mesh
from meshpy.engine.claims import auth_of
from meshpy.engine.normalise import NormalisedTarget, normalise_target
from meshpy.engine.request import Request
from tests.helpers.policies import document, loaded, shop
from tests.helpers.wire import mesh_as_received

WORDS = ["a", "ab", "admin", "v1", "x.html", "..a", "%20", "A"]
PATHS = ["/", "/a", "/a/", "/ab", "/admin", "/admin/", "/a/b", "/v1/a", "/a/v1/x.html"]
METHODS = ["GET", "POST", "DELETE", "PATCH"]
REGEXES = ["/a.*", "/[a-c]+/v1", ".*html$", "/(admin|v1)(/.*)?", "/a{2,3}", "^/(?i)admin", "/a/..", "/\\bx.*"]
HEADERS = ["x-user", "x-team"]
VALUES = ["jason", "mary", "jas", "", "jason2", "ops"]
VALUE_MATCHES = ["jason", "ja*", "*2", "*", "ops"]
ACCOUNTS = ["web", "api", "report", "catalog-v1"]
CALLEES = ["web", "api", "catalog-v1", "catalog-v2", "redis"]
JWKS = (
    '{"keys": [{"kty": "EC", "crv": "P-256", "kid": "k",'
    ' "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",'
    ' "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}'
)
ISSUERS = ["https://a", "https://b", "c"]
SUBJECTS = ["ann", "bob", ""]
AUDIENCES = ["shop", "blog"]
ROLES = ["staff", "ops", "staff2"]
NETS = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7"]
ADDRESSES = ["10.0.0.9", "10.1.2.3", "192.0.2.7", "192.0.2.8"]


@dataclass
class Dice:
    """A seeded source of documents and requests."""

    seed: int

    def __post_init__(self):
        self.random = random.Random(self.seed)

    def chance(self, percent):
        return self.random.random() * 100 < percent

    def one(self, items):
        return self.random.choice(items)

    def some(self, items, most=2):
        return self.random.sample(items, self.random.randint(1, min(most, len(items))))

    # documents

    def path_match(self):
        path = self.one(PATHS)
        return self.one(
            [path, f"{path}*", f"*{self.one(WORDS[:5])}", "/a/{*}", "/{**}/x.html", "/{*}/v1", "*"]
        )

    def operation(self):
        fields = []
        if self.chance(50):
            fields.append(f"methods: {self.some(METHODS)}")
        if self.chance(20):
            fields.append(f"notMethods: {self.some(METHODS)}")
        if self.chance(60):
            fields.append(f"paths: {[self.path_match() for _ in range(self.random.randint(1, 3))]}")
        if self.chance(20):
            fields.append(f"notPaths: {[self.path_match()]}")
        if self.chance(15):
            fields.append(f"hosts: {self.some(['api', 'api:8080', '*.shop', 'cat*', 'catalog'])}")
        if self.chance(15):
            fields.append(f"ports: {self.some(['80', '8080', '81'])}")
        return "{operation: {" + (", ".join(fields) or "methods: ['*']") + "}}"

    def source(self):
        fields = [
            self.one(
                [
                    f"serviceAccounts: {self.some(ACCOUNTS)}",
                    f"namespaces: {self.some(['shop', 'blog', 'sh*'])}",
                    f"principals: ['cluster.local/ns/shop/sa/{self.one(ACCOUNTS)}', '*/sa/report']",
                    f"notNamespaces: {self.some(['shop', 'blog'])}",
                    f"ipBlocks: {self.some(NETS)}",
                    f"notIpBlocks: {self.some(NETS)}",
                ]
            )
        ]
        return "{source: {" + ", ".join(fields) + "}}"

    def claim(self):
        key, values = self.one(
            [
                ("request.auth.claims[roles]", ["staff", "sta*", "ops"]),
                ("request.auth.claims[iss]", ISSUERS),
                ("request.auth.claims[sub]", ["ann", "*b"]),
                ("request.auth.principal", ["https://a/ann", "https://b/*", "*/bob", "*"]),
                ("request.auth.audiences", AUDIENCES),
                ("request.auth.presenter", ["app", "a*"]),
            ]
        )
        return f"{{key: '{key}', {self.one(['values', 'notValues'])}: {self.some(values)}}}"

    def authentication(self, name):
        issuer = self.one(ISSUERS)
        audiences = f", audiences: {self.some(AUDIENCES)}" if self.chance(50) else ""
        place = self.one(["", "", ", fromHeaders: [{name: x-token}]", ", fromParams: [debug]"])
        rule = f"{{issuer: '{issuer}', jwks: '{JWKS}'{audiences}{place}}}"
        selector = f"selector: {{matchLabels: {{app: {self.one(CALLEES[:4])}}}}}"
        return document("RequestAuthentication", f"{selector}\njwtRules: [{rule}]", name)

    def token(self):
        """Claims as a verified token has them; None for a request without one."""
        if self.chance(50):
            return None
        payload = {"iss": self.one([*ISSUERS, "https://x"]), "azp": self.one(["app", "bot"])}
        subject = self.one(SUBJECTS)
        if subject:
            payload["sub"] = subject
        if self.chance(60):
            payload["aud"] = self.some(AUDIENCES)
        if self.chance(60):
            payload["roles"] = [self.one(ROLES) for _ in range(self.one([1, 2]))]
        return auth_of(payload)

    def condition(self):
        if self.chance(30):
            return self.claim()
        key = self.one([f"'request.headers[{name}]'" for name in HEADERS])
        which = self.one(["values", "notValues"])
        return f"{{key: {key}, {which}: {self.some(VALUE_MATCHES)}}}"

    def rule(self):
        parts = []
        if self.chance(60):
            parts.append(f"from: [{', '.join(self.source() for _ in range(self.random.randint(1, 2)))}]")
        if self.chance(70):
            parts.append(f"to: [{', '.join(self.operation() for _ in range(self.random.randint(1, 2)))}]")
        if self.chance(30):
            parts.append(f"when: [{self.condition()}]")
        return "{" + ", ".join(parts) + "}"

    def authorization(self, name):
        selector = f"selector: {{matchLabels: {{app: {self.one(CALLEES)}}}}}\n" if self.chance(80) else ""
        rules = ", ".join(self.rule() for _ in range(self.random.randint(0, 3)))
        action = self.one(["ALLOW", "ALLOW", "DENY", "AUDIT"])
        return document("AuthorizationPolicy", f"{selector}action: {action}\nrules: [{rules}]", name)

    def network_rule(self):
        action = self.one(["Allow", "Allow", "Deny", "Pass", "Log"])
        fields = [f"action: {action}", "protocol: TCP"]
        peer = self.one(
            [
                f"selector: \"app == '{self.one(ACCOUNTS)}'\"",
                f"nets: {self.some(NETS)}",
                "namespaceSelector: all()",
            ]
        )
        if self.chance(70):
            fields.append(f"source: {{{peer}}}")
        if self.chance(30):
            fields.append(f"destination: {{ports: [{self.one(['80', '8080', '80:9000'])}]}}")
        if action == "Allow" and self.chance(40):
            path = self.one([f"exact: {self.one(PATHS)}", f"prefix: {self.one(PATHS)}"])
            fields.append(f"http: {{methods: {self.some(METHODS)}, paths: [{{{path}}}]}}")
        return "{" + ", ".join(fields) + "}"

    def network(self, name):
        rules = ", ".join(self.network_rule() for _ in range(self.random.randint(0, 3)))
        selector = f"app == '{self.one(CALLEES)}'"
        head = f'order: {self.random.randint(1, 9)}\nselector: "{selector}"\ntypes: [Ingress]\n'
        return document("NetworkPolicy", f"{head}ingress: [{rules}]", name)

    def egress(self, name):
        action = self.one(["Allow", "Deny"])
        rule = f"{{action: {action}, destination: {{selector: \"app == '{self.one(CALLEES)}'\"}}}}"
        spec = f"selector: \"app == '{self.one(ACCOUNTS)}'\"\ntypes: [Egress]\negress: [{rule}]"
        return document("NetworkPolicy", spec, name)

    def kubernetes(self, name):
        peer = self.one(
            [
                f"podSelector: {{matchLabels: {{app: {self.one(ACCOUNTS)}}}}}",
                "namespaceSelector: {}",
                "ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}",
            ]
        )
        rule = f"{{from: [{{{peer}}}]" + (", ports: [{port: 8080}]}" if self.chance(40) else "}")
        spec = f"podSelector: {{matchLabels: {{app: {self.one(CALLEES)}}}}}\ningress: [{rule}]"
        return document("NetworkPolicy.networking.k8s.io", spec, name)

    def cilium(self, name):
        peer = self.one(
            [
                f"fromEndpoints: [{{matchLabels: {{app: {self.one(ACCOUNTS)}}}}}]",
                f"fromEntities: [{self.one(['all', 'world', 'cluster'])}]",
            ]
        )
        http = f"{{method: '{self.one(['GET', 'GET|POST'])}', path: '{self.one(REGEXES[:4])}'}}"
        rules = f", rules: {{http: [{http}]}}" if self.chance(60) else ""
        ports = f", toPorts: [{{ports: [{{port: '8080'}}]{rules}}}]" if self.chance(70) else ""
        deny = f"\ningressDeny: [{{fromEndpoints: [{{matchLabels: {{app: {self.one(ACCOUNTS)}}}}}]}}]"
        spec = f"endpointSelector: {{matchLabels: {{app: {self.one(CALLEES[:4])}}}}}\n"
        spec += f"ingress: [{{{peer}{ports}}}]" + (deny if self.chance(30) else "")
        return document("CiliumNetworkPolicy", spec, name)

    def peer_authentication(self, name):
        return document(
            "PeerAuthentication",
            f"selector: {{matchLabels: {{app: web}}}}\nmtls: {{mode: {self.one(['STRICT', 'PERMISSIVE'])}}}",
            name,
        )

    def http_route(self, name):
        matches = [
            f"{{path: {{type: {self.one(['Exact', 'PathPrefix'])}, value: {self.one(PATHS)}}}"
            + (f", method: {self.one(METHODS)}" if self.chance(30) else "")
            + "}"
            for _ in range(self.random.randint(1, 2))
        ]
        spec = "parentRefs: [{group: '', kind: Service, name: catalog-v1}]\nrules:\n"
        spec += f"- {{matches: [{', '.join(matches)}], backendRefs: [{{name: catalog-v2, port: 8080}}]}}"
        if self.chance(60):
            spec += "\n- {backendRefs: [{name: catalog-v1, port: 8080}]}"
        return document("HTTPRoute", spec, name)

    def route_match(self):
        fields = []
        if self.chance(70):
            if self.chance(25):
                fields.append(f"uri: {{regex: '{self.one(REGEXES)}'}}")
            else:
                literal = self.one([f"prefix: {self.one(PATHS)}", f"exact: {self.one(PATHS)}"])
                fields.append(f"uri: {{{literal}}}")
                if self.chance(15):
                    fields.append("ignoreUriCase: true")
        if self.chance(25):
            fields.append(f"method: {{exact: {self.one(METHODS)}}}")
        if self.chance(25):
            fields.append(f"headers: {{{self.one(HEADERS)}: {{exact: jason}}}}")
        if self.chance(15):
            fields.append(f"withoutHeaders: {{{self.one(HEADERS)}: {{prefix: ja}}}}")
        if self.chance(20):
            fields.append("queryParams: {debug: {exact: '1'}}")
        if self.chance(10):
            fields.append("authority: {prefix: cat}")
        return "{" + (", ".join(fields) or "port: 8080") + "}"

    def route(self):
        parts = []
        if self.chance(70):
            parts.append(
                f"match: [{', '.join(self.route_match() for _ in range(self.random.randint(1, 2)))}]"
            )
        target = self.one(["catalog-v1", "catalog-v2", "api"])
        if self.chance(10):
            parts.append("redirect: {uri: /moved}")
        else:
            weight = self.one([10, 50])
            parts.append(
                f"route: [{{destination: {{host: {target}}}, weight: {weight}}},"
                f" {{destination: {{host: catalog-v1}}, weight: {100 - weight}}}]"
            )
            if self.chance(40):
                parts.append(f"rewrite: {{uri: {self.one(['/', '/a', '/a/', '/v1/.', '/..', '/admin'])}}}")
            if self.chance(20):
                parts.append("headers: {request: {set: {x-user: jason}}}")
            if self.chance(15):
                origin = self.one(["exact: https://shop.test", "prefix: https://s", "regex: '.*test'"])
                parts.append(f"corsPolicy: {{allowOrigins: [{{{origin}}}], allowMethods: [GET]}}")
        return "{" + ", ".join(parts) + "}"

    def virtual_service(self, host):
        rules = ", ".join(self.route() for _ in range(self.random.randint(1, 3)))
        return document("VirtualService", f"hosts: [{host}]\nhttp: [{rules}]", f"vs-{host}")

    def documents(self):
        texts = [self.authorization(f"a{i}") for i in range(self.random.randint(0, 4))]
        texts += [self.network(f"n{i}") for i in range(self.random.randint(0, 2))]
        if self.chance(30):
            texts.append(self.egress("e"))
        if self.chance(35):
            texts.append(self.authentication("j"))
        for name, make in (
            ("k", self.kubernetes),
            ("l", self.cilium),
            ("p", self.peer_authentication),
            ("h", self.http_route),
        ):
            if self.chance(25):
                texts.append(make(name))
        for host in ("catalog", "api"):
            if self.chance(60):
                texts.append(self.virtual_service(host))
        return texts

    def changed(self, texts):
        """The documents with one or two replaced, added or dropped; sometimes wholly others."""
        if self.chance(10):
            return self.documents()
        kept = list(texts)
        for _ in range(self.random.randint(1, 2)):
            if kept and self.chance(70):
                kept.pop(self.random.randrange(len(kept)))
        names = "".join(kept)
        more = [text for text in self.documents() if text.split("name: ")[1].split(",")[0] not in names]
        return kept + more[: self.random.randint(0, 2)]

    def rewriting(self):
        """Two sets in which paths are rewritten on their way to rules that differ in paths."""
        uri = self.one(["/", "/a", "/a/", "/v1/.", "/..", "/admin", "/a/..", "/ad"])
        prefix = self.one(["/", "/x", "/x/", "/a", "/a/b", "/v1"])
        more = self.one(["", "headers: {request: {set: {x-user: jason}}}, "])
        way = f"{more}rewrite: {{uri: {uri}}}, route: [{{destination: {{host: api}}}}]"
        route = f"hosts: [api]\nhttp: [{{match: [{{uri: {{prefix: {prefix}}}}}], {way}}}, {{{way}}}]"

        def rule(name):
            paths = [self.path_match() for _ in range(2)]
            spec = f"selector: {{matchLabels: {{app: api}}}}\naction: {self.one(['ALLOW', 'DENY'])}\n"
            return document(
                "AuthorizationPolicy", f"{spec}rules: [{{to: [{{operation: {{paths: {paths}}}}}]}}]", name
            )

        kept = [document("VirtualService", route, "v"), rule("a")]
        return [*kept, rule("b")], [*kept, rule("b")]

    # requests

    def path(self):
        if self.chance(50):
            raw = self.one(PATHS) + self.one(["", "/", "x", "/a", ".html", "/..", "..", "."])
        else:
            raw = "/" + "/".join(self.one(WORDS) for _ in range(self.random.randint(0, 3)))
        found = normalise_target(raw.encode())
        return found.path if isinstance(found, NormalisedTarget) else "/"

    def request(self, authority):
        headers = {"host": [authority]}
        for name in HEADERS:
            if self.chance(40):
                headers[name] = [self.one(VALUES) for _ in range(self.one([1, 1, 2, 3]))]
        query = self.one(["", "", "debug=1", "debug=2", "x=1&debug=1", "debug=1&debug=0"])
        if self.chance(15):
            headers["x-token"] = ["no.such.token"]
        if self.chance(15):
            headers["authorization"] = [self.one(["Bearer abc", "bearer abc", "Basic abc"])]
        if self.chance(20):
            headers["origin"] = [self.one(["https://shop.test", "https://evil.test", ""])]
            headers["access-control-request-method"] = ["GET"]
        method = self.one([*METHODS, "get", "OPTIONS"])
        return Request(method, self.path(), query, authority, "http", headers, self.token())


def compiled(texts):
    """The snapshots of the shop under these documents, as its sidecars have them."""
    mesh = compile_mesh(shop(), loaded(*texts), trust_domain="cluster.local", revision=0)
    return mesh_as_received(mesh)
