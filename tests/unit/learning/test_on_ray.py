import importlib.util

import numpy as np
import pytest

from pointsman_policy.errors import DocumentError
from pointsman_policy.learning.on_ray import RayExecutor
from pointsman_policy.learning.scoring import Scorer, scorer
from pointsman_policy.learning.sources import MadeUp
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.randomisation import Distribution

_HAS_RAY = importlib.util.find_spec("ray") is not None


@pytest.mark.skipif(_HAS_RAY, reason="Ray is installed here")
def test_without_ray_an_address_is_refused_with_what_to_do() -> None:
    with pytest.raises(DocumentError, match=r"training\.ray: 10\.0\.0\.1:6379 cannot be used without .* install it"):
        RayExecutor("10.0.0.1:6379")


@pytest.mark.skipif(not _HAS_RAY, reason="needs Ray, which is optional")
@pytest.mark.filterwarnings("ignore")
def test_scores_are_the_same_on_a_cluster() -> None:
    source = MadeUp(Distribution(requests=200), seed=1)
    parameters = np.array([PICKERS["ImpactGreedy"].parameters])
    here = Scorer().score(source, range(4), "ImpactGreedy", parameters)
    with scorer(ray="local") as work:
        there = work.score(source, range(4), "ImpactGreedy", parameters)
    assert np.array_equal(here.qos, there.qos)
    assert np.array_equal(here.scale, there.scale)
