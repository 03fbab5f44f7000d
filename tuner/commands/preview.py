"""What a campaign is going to take, before it is run."""

from __future__ import annotations

from tuner.campaign.remaining import estimate_remaining
from tuner.campaign.search import CampaignConfig
from tuner.endpoints.protocol import CampaignEstimate
from tuner.plan.parse import Plan
from tuner.recommend.prices import Price
from tuner.units import s_to_h


def estimate_of(plan: Plan, config: CampaignConfig, price: Price | None) -> CampaignEstimate:
    """Duration and cost of a typical campaign of this plan."""
    seconds, _ = estimate_remaining(config, ())
    top = max(plan.load.instance_counts)
    return CampaignEstimate(
        max_instance_count=top,
        duration_s=seconds,
        requests=None,
        instance_hours=s_to_h(seconds) * top,
        price_per_hour_usd=price.usd_per_hour if price else None,
        cost_limit_usd=plan.load.max_cost_usd,
    )
