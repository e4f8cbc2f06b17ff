"""Short work on several threads: results in order, failures told, children of a fork too."""

import os
import subprocess
import sys
import threading

import pytest

from sccodec.threads import at_once, share

FORKED = """
import os
from sccodec.threads import at_once

at_once(abs, [-1, -2])
child = os.fork()
if not child:
    os._exit(at_once(abs, [-3, -4]) != [3, 4])
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_results_are_in_order_and_the_first_is_made_here():
    found = at_once(lambda item: (item, threading.current_thread()), range(5))
    assert [item for item, _ in found] == list(range(5))
    assert found[0][1] is threading.current_thread()
    assert at_once(abs, []) == []


@pytest.mark.parametrize("bad", [0, 2])
def test_a_failure_is_told(bad):
    with pytest.raises(ZeroDivisionError):
        at_once(lambda item: 1 / (item - bad), range(3))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_the_child_of_a_fork_has_threads_of_its_own():
    # Without them it would wait for those of its parent.
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=60)


def test_threads_are_shared_between_items():
    assert [share(8, items) for items in (0, 1, 3, 8, 9)] == [8, 8, 2, 1, 1]
