"""Where the tests find data that is not part of the project, and what they do without it."""
import os
os.environ['OMP_NUM_THREADS'] = os.environ.get('GAUGAN_TEST_THREADS', '1')   # two workers on two cores: more threads only get in each other's way

from pathlib import Path
import pytest

ROOT = Path(__file__).parent.parent

def shared_path(*parts) -> Path:
    "`GAUGAN_SHARED/parts`; where it is missing skip, or fail if `GAUGAN_REQUIRE_SHARED=1`"
    path = Path(os.environ.get('GAUGAN_SHARED', ROOT.parent/'shared')).joinpath(*parts)
    if path.exists(): return path
    why = f'{path} is missing: set GAUGAN_SHARED to the folder with the reference data'
    if os.environ.get('GAUGAN_REQUIRE_SHARED') == '1': pytest.fail(why)
    pytest.skip(why)

@pytest.fixture
def shared(): return shared_path

def once_but(again, cases) -> list:
    "The cases of a numeric test, those that are not in `again` marked `once`: .ci/run's further passes leave them out"
    again, cases = list(again), list(cases)
    return [o if o in again else pytest.param(*(o if isinstance(o, tuple) else [o]), marks=pytest.mark.once) for o in cases]
