"""What the steps of a refinement took, and their table by stages."""
import time

import pytest
from vaegan_engine.contract.status import StageCost
from vaegan_engine.contract.wording import costs_text
from vaegan_engine.reconstruction.pose_count import count_poses
from vaegan_engine.refine.costs import OTHER, STAGES, StepClock, stage_costs, stage_of


def test_a_step_counts_what_is_not_of_the_steps_inside():
    clock = StepClock()

    def inner():
        time.sleep(0.05)
        count_poses(7)
        return "inside"

    def outer():
        count_poses(3)
        assert clock.measured(inner)[1].image_poses == 7
        return clock.measured(inner)[0]

    value, cost = clock.measured(outer)
    assert value == "inside"
    assert cost.image_poses == 3
    assert cost.seconds < 0.05
    after, alone = clock.measured(lambda: count_poses(2))
    assert after is None
    assert alone.image_poses == 2


def test_a_step_that_fails_leaves_the_clock_as_it_was():
    clock = StepClock()
    with pytest.raises(ValueError, match="no"):
        clock.measured(lambda: (_ for _ in ()).throw(ValueError("no")))
    assert clock.measured(lambda: count_poses(5))[1].image_poses == 5


@pytest.mark.parametrize(("step", "stage"), [
    ("ab_initio", "starts"), ("ab_initio_contrast", "starts"), ("first_states", "pose search"),
    ("contrast_states", "pose search"), ("contrast_again", "contrasts"), ("divide_1", "landscapes"),
    ("settle_anew_0", "states settled and joined"), ("restart_0_state_01", "restarts"), ("again_1", "second search"),
    ("follow_00", "poses along motions"), ("detail_12", "half maps"), ("motion_03", "motions"), ("new", OTHER)])
def test_every_step_has_a_stage(step, stage):
    assert stage_of(step) == stage


def test_the_stages_of_a_log_and_what_is_left_add_up_to_the_whole():
    log = [{"stage": "step", "step": "mask_0", "took_seconds": 1.0, "image_poses": 10},
           {"stage": "mask", "seconds": 1.0},
           {"stage": "step", "step": "ab_initio", "took_seconds": 2.0, "image_poses": 5},
           {"stage": "step", "step": "mask_1", "took_seconds": 0.5, "image_poses": 1}]
    costs = stage_costs(log, 10.0)
    assert costs == [StageCost("starts", 2.0, 5), StageCost("mask", 1.5, 11), StageCost(OTHER, 6.5, 0)]
    assert [stage.stage for stage in stage_costs([], 0.0)] == []
    lines = costs_text(costs).splitlines()
    assert [line.split()[-2] for line in lines[1:]] == ["20.0", "15.0", "65.0"]
    assert len({len(line) for line in lines}) == 1
    assert len({stage for _, stage in STAGES}) == len(STAGES) - 1  # one stage has two kinds of steps
