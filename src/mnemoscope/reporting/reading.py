"""Which numbers of a record speak for a site."""

from mnemoscope.runs import Estimate, Examination, SiteRecord
from mnemoscope.runs.examination import InterventionName, Locus


def primary(site: SiteRecord) -> Locus | None:
    """The locus whose effects speak for the site: the read, or the contribution where the read was not measured."""
    for locus in ("read", "contribution"):
        if site.effects.get(locus):
            return locus
    return None


def effect(site: SiteRecord, name: InterventionName) -> Estimate | None:
    """The effect of an intervention at the primary locus, or None when it was not measured."""
    locus = primary(site)
    return site.effects[locus].get(name) if locus else None


def at_local_window(site: SiteRecord, examination: Examination) -> Estimate | None:
    """The horizon effect at the local window, or None when that window was not measured."""
    points = [point for point in site.horizon if point.window == examination.local_window]
    return points[0].effect if points else None


def deciding(site: SiteRecord, name: str, examination: Examination) -> Estimate | None:
    """An effect that verdicts rest on, as it decided; of a record without comparisons, as it was measured."""
    compared = {comparison.name: comparison.effect for comparison in site.comparisons}
    if compared:
        return compared.get(name)
    others = {
        "headroom": examination.headroom,
        "conditional": site.conditional,
        "local_horizon": at_local_window(site, examination),
    }
    if name in others:
        return others[name]
    locus = primary(site)
    return {str(key): value for key, value in site.effects[locus].items()}.get(name) if locus else None
