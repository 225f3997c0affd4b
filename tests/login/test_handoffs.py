"""What is kept of one-time codes, and for how long."""

import asyncio
from urllib.parse import urljoin

from control_plane.changes import Origin, changing
from control_plane.db.pool import create_pool
from control_plane.login import handoffs
from control_plane.permissions import SYSTEM
from tests.login.browser import Browser
from tests.login.world import SHOP, World, parameters


def code_for(browser: Browser) -> str:
    """A code that nobody has shown yet."""
    url = f"http://{SHOP}/"
    while "/.catalyst/callback" not in url:
        url = urljoin(url, browser.ask("GET", url).headers["location"])
    return parameters(url)["code"]


def test_codes_that_nobody_showed_are_forgotten_and_others_are_not(world: World, browser: Browser, thief: Browser) -> None:
    late, fresh = code_for(browser), code_for(thief)
    late_sha256 = handoffs._digest(late)
    world.query("UPDATE catalyst.handoffs SET expires_at = now() - interval '1 second' WHERE code_sha256 = %s", late_sha256)

    async def tidy() -> None:
        pool = await create_pool(world.plane.settings.database_url, "catalyst_control", size=1)
        async with changing(pool, Origin(SYSTEM)) as change:
            await handoffs.forget(change)
        await pool.close()

    asyncio.run(tidy())
    assert world.query("SELECT code_sha256 FROM catalyst.handoffs") == [(handoffs._digest(fresh),)]


def test_a_challenge_has_one_spelling() -> None:
    nonce = handoffs.new_nonce()
    challenge = handoffs.challenge_of(nonce)
    assert handoffs.is_nonce(nonce)
    assert handoffs.is_challenge(challenge)
    # The last of 43 characters holds four bits: the others spell the same bytes.
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(challenge[-1])
    other = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last + 1]
    for text in (challenge[:-1] + other, challenge[:-1], challenge + "A", challenge + "=", "ü" * 43, ""):
        assert not handoffs.is_challenge(text)
