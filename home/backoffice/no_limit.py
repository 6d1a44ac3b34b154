"""piccolo-admin's limiter of sign-ins, taken out: home.accounts.throttle limits them."""

from __future__ import annotations

from piccolo_api.rate_limiting.middleware import RateLimitProvider


class NoLimit(RateLimitProvider):
    """Stands for the stock limiter, which counts successes, and in one process only."""

    def increment(self, identifier: str) -> None: ...
