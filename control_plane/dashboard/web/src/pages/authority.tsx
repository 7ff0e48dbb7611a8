import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call } from "../api";
import { ago, count } from "../format";
import type { Authority as Answer, Certificate, Denied } from "../types";
import { Badge, Card, Empty, Table, Trouble } from "../ui";
import { ServiceLink } from "./overview";

const SOON_DAYS = 30;

export function Authority() {
  const authority = useSignal<Answer | null>(null);
  const denied = useSignal<Denied["denied"]>([]);
  const error = useSignal<unknown>(null);
  useEffect(() => {
    Promise.all([call<Answer>("GET", "/v1/ca"), call<Denied>("GET", "/v1/ca/denied")]).then(
      ([ca, list]) => {
        authority.value = ca;
        denied.value = list.denied;
      },
      (reason) => (error.value = reason),
    );
  }, []);
  const ca = authority.value;
  if (error.value) return <Trouble error={error.value} />;
  if (!ca) return <Empty>asking the control plane…</Empty>;
  const rows = [...ca.roots.map((each) => ({ what: "root", ...each })), { what: "intermediate", ...ca.intermediate }];
  return (
    <>
      <Card title={`Trust domain ${ca.trust_domain}`} aside={<span class="quiet">{count(ca.issued)} certificates issued, {count(ca.refused)} refused since the start; each lives {ca.leaf_ttl_s / 60} minutes</span>}>
        <Table
          label="Certificates of the CA"
          rows={rows}
          id={(each) => each.serial}
          empty=""
          columns={[
            { head: "Certificate", cell: (each) => each.what },
            { head: "Subject", cell: (each) => each.subject },
            { head: "Serial", cell: (each) => <code>{each.serial.slice(0, 16)}</code> },
            { head: "Ends", cell: (each) => each.not_after.slice(0, 10) },
            { head: "Left", cell: (each) => <Left certificate={each} /> },
          ]}
        />
      </Card>
      <Card title="Revoked identities">
        <Table
          label="Revoked identities"
          rows={denied.value}
          id={(each) => each.service}
          empty="none; `meshpy ca revoke SERVICE` cuts one off"
          columns={[
            { head: "Service", cell: (each) => <ServiceLink name={each.service} /> },
            { head: "Why", cell: (each) => each.message || "–" },
          ]}
        />
      </Card>
    </>
  );
}

function Left({ certificate }: { certificate: Certificate }) {
  const days = (Date.parse(certificate.not_after) - Date.now()) / 86_400_000;
  return <Badge tone={days < SOON_DAYS ? "bad" : "good"}>{ago(certificate.not_after)}</Badge>;
}
