"""What a run came to: ratios to Envoy, shares of the floor, tables."""

_CPU = ("plain", "mtls_in", "mtls_out", "pair", "body_64k", "upload_64k", "h2", "h2_8x16", "tcp")
_GOALS = {
    "plain": 0.60, "mtls_in": 0.60, "mtls_out": 0.60, "pair": 0.55, "body_64k": 0.80, "upload_64k": 0.80,
    "h2": 1.0, "h2_8x16": 1.0, "tcp": 1.1, "handshake": 0.5, "rss": 0.6,
}  # fmt: skip


def compare(figures):
    """Ratios meshpy ÷ Envoy (CPU per request, memory) or handshakes per CPU second; and the floor."""
    ours, envoy, relay = (figures.get(name, {}) for name in ("meshpy", "envoy", "relay"))
    ratios, reasons = {}, {}
    for scenario in _CPU:
        if scenario in ours and scenario in envoy:
            ratios[scenario] = round(ours[scenario]["cpu_us"] / envoy[scenario]["cpu_us"], 2)
    if envoy:
        ratios["rss"] = round(ours["rss_mib"] / envoy["rss_mib"], 2)
        if "handshake_us" in ours and "handshake_us" in envoy:
            ratios["handshake"] = round(envoy["handshake_us"] / ours["handshake_us"], 2)
    else:
        reasons["ratios"] = "Envoy is not installed here"
    return {"ratios": ratios, "reasons": reasons, "floor": _floor(ours, relay)}


def _floor(ours, relay):
    """Of each request's CPU: what the same bytes cost a relay on the same loop, TLS apart, and the rest."""
    made = {}
    for scenario in _CPU:
        if scenario not in ours or scenario not in relay:
            continue
        floor = relay[scenario]["cpu_us"]
        plain = relay.get("plain", relay[scenario])["cpu_us"]
        hops = 2 if scenario == "pair" else 1
        has_tls = scenario in ("mtls_in", "mtls_out", "pair")
        tls = max(0.0, floor - plain * hops) if has_tls else 0.0
        total = ours[scenario]["cpu_us"]
        made[scenario] = {
            "total_us": total,
            "kernel_and_loop_us": round(floor - tls, 1),
            "tls_us": round(tls, 1),
            "ours_us": round(total - floor, 1),
        }
    return made


def show(report):
    """Print everything a run measured."""
    figures = report["figures"]
    names = list(figures)
    print(f"\nmeshpy and the relay run on Python {report['python']}")
    print(f"\nCPU µs per request{'':12}" + "".join(f"{name:>10}" for name in names))
    for scenario in _CPU:
        cells = [figures[name].get(scenario, {}).get("cpu_us", "") for name in names]
        if any(cells):
            print(f"  {scenario:28}" + "".join(f"{cell:>10}" for cell in cells))
    rows = ["handshake_us", "rss_mib", "rss_pair_mib"]
    rows += [f"added_{way}_{q}_ms" for way in ("plain", "pair") for q in ("p50", "p99")]
    for row in rows:
        cells = [figures[name].get(row, "") for name in names]
        if any(cells):
            print(f"{row:30}" + "".join(f"{cell:>10}" for cell in cells))
    print(f"kernel's share{'':16}" + "".join(f"{_share(figures[name]):>10}" for name in names))
    if report["floor"]:
        print(f"\nmeshpy's request{'':6}{'total':>10}{'kernel+loop':>13}{'TLS':>8}{'ours':>8}  µs")
        for scenario, row in report["floor"].items():
            widths = (10, 13, 8, 8)
            print(
                f"  {scenario:20}" + "".join(f"{v:>{w}}" for v, w in zip(row.values(), widths, strict=True))
            )
    print("\nratio to Envoy (CPU, memory: lower is better; handshake: handshakes per CPU second)")
    for name, value in report["ratios"].items():
        goal = _GOALS[name]
        sign = "≥" if name == "handshake" else "≤"
        text = "-" if value is None else f"{value:.2f}"
        note = report["reasons"].get(name, "")
        print(f"  {name:12}{text:>6}  goal {sign} {goal:.2f}  {note}")
    if "ratios" in report["reasons"]:
        print(report["reasons"]["ratios"])


def _share(figures):
    cell = figures.get("plain") or next((v for v in figures.values() if isinstance(v, dict)), {})
    share = cell.get("kernel_share")
    return "" if share is None else f"{share:.2f}"
