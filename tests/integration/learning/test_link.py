"""What passes between a router and the policy service, and what becomes of either without the other."""

from collections import Counter

import requests
from tests.integration.learning.conftest import Site
from tests.integration.stack.processes import eventually

from pointsman.policy.v1 import policy_pb2 as pb


def test_what_is_decided_and_what_becomes_of_it_reaches_the_store(site: Site) -> None:
    site.start("service", "router")
    made = site.serve(30)
    judged = requests.post(
        f"{site.admin_url}/decisions/{made[0].decision_id}/quality", json={"quality": 0.5}, timeout=10
    )
    assert judged.status_code == 204
    eventually(lambda: site.rollout().outcomes == 30, "the outcomes do not arrive")
    eventually(lambda: site.state()["problems"]["learning"]["outcomes"] == "", "the link is not well")


def test_outcomes_wait_for_a_service_that_is_away_and_come_once(site: Site) -> None:
    site.start("router")
    site.serve(20)
    assert "outcomes" in site.state()["problems"]["learning"]
    site.start("service")
    eventually(lambda: site.rollout().outcomes == 20, "the outcomes that waited do not arrive")
    site.parts["service"].kill()
    site.serve(20)
    site.parts["router"].stop()  # what a kill loses of the last fifth of a second is tests/unit/outcomes' business
    site.start("router", "service")
    site.serve(1)
    eventually(lambda: site.rollout().outcomes >= 41, "outcomes were lost over two restarts")
    assert site.rollout().outcomes == 41


def test_a_promoted_version_decides_and_outlives_the_service(site: Site) -> None:
    site.start("service", "router")
    assert site.route().endpoints[0].expert == "a"
    version = site.add_version(best="model-b")
    site.promote(version, pb.ACTIVE)
    site.decides(version)
    assert site.route().endpoints[0].expert == "b"
    site.parts["service"].kill()
    assert site.route().policy_version == version
    site.parts["router"].kill()
    site.start("router")
    assert site.route().policy_version == version
    assert "outcomes" in site.state()["problems"]["learning"]


def test_a_canary_decides_on_its_share_and_goes_when_it_is_rolled_back(site: Site) -> None:
    site.start("service", "router")
    version = site.add_version(best="model-b")
    site.promote(version, pb.CANARY_STAGE)
    eventually(lambda: any(one.policy_version == version for one in site.serve(50)), "the canary does not decide")
    versions = Counter(one.policy_version for one in site.serve(400))
    assert 0.01 < versions[version] / 400 < 0.12
    with site.service() as stub:
        stub.RollBack(pb.RollBackRequest(policy="default/chat", reason="a test"), timeout=30)
    eventually(lambda: all(one.policy_version != version for one in site.serve(50)), "the canary still decides")
    assert site.rollout().history[0].reason == "a test"
