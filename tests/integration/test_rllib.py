"""GraphEnv is a sound environment in RLlib's own eyes, and its reward is the task's."""

import pytest

from neuromas.errors import TaskError
from neuromas.tasks.chain import ChainSpec
from neuromas.tasks.registry import make_task
from neuromas.topology.builders import layered

TASK = make_task(ChainSpec(type="chain", hops=2), 0)
GRAPH = layered([2])


def make_env():
    from neuromas.integrations.rllib import GraphEnv

    return GraphEnv(GRAPH, TASK)


def test_rllib_accepts_the_environment() -> None:
    from ray.rllib.utils.pre_checks.env import check_multiagent_environments

    check_multiagent_environments(make_env())


def test_nodes_speak_in_topological_order_and_read_their_predecessors() -> None:
    env = make_env()
    first, second, output = GRAPH.order
    observations, infos = env.reset(seed=3)
    example = TASK.example("train", 3)
    assert list(observations) == [first]
    assert infos == {first: {"example": example.id}}
    assert example.prompt in observations[first]
    observations, rewards, terminated, _, _ = env.step({first: "so A= 4 ."})
    assert (list(observations), rewards, terminated) == ([second], {}, {"__all__": False})
    assert "so A= 4 ." not in observations[second]
    observations, _, _, _, _ = env.step({second: "so A= 5 ."})
    assert "so A= 4 ." in observations[output]
    assert "so A= 5 ." in observations[output]


@pytest.mark.parametrize("is_right", [True, False])
def test_all_nodes_share_the_terminal_reward(is_right: bool) -> None:
    env = make_env()
    env.reset(seed=0)
    example = TASK.example("train", 0)
    first, second, output = GRAPH.order
    env.step({first: "x"})
    env.step({second: "y"})
    answer = example.answer if is_right else "so A= ."
    observations, rewards, terminated, truncated, _ = env.step({output: answer})
    assert observations == {}
    assert rewards == dict.fromkeys(GRAPH.order, TASK.score(example, answer))
    assert terminated == {first: True, second: True, output: True, "__all__": True}
    assert not any(truncated.values())


def test_rllib_records_a_whole_episode() -> None:
    from ray.rllib.env.multi_agent_episode import MultiAgentEpisode

    env = make_env()
    observations, infos = env.reset(seed=0)
    episode = MultiAgentEpisode()
    episode.add_env_reset(observations=observations, infos=infos)
    while not episode.is_done:
        actions = dict.fromkeys(observations, "so A= 1 .")
        observations, rewards, terminated, truncated, infos = env.step(actions)
        episode.add_env_step(observations, actions, rewards, infos=infos, terminateds=terminated, truncateds=truncated)
    assert set(episode.agent_ids) == set(GRAPH.order)
    assert episode.is_terminated


def test_speaking_out_of_turn_or_after_the_end_is_refused() -> None:
    env = make_env()
    env.reset(seed=0)
    with pytest.raises(TaskError, match="turn of node"):
        env.step({GRAPH.output: "so A= 1 ."})
    for node in GRAPH.order:
        env.step({node: "so A= 1 ."})
    with pytest.raises(TaskError, match="reset"):
        env.step({GRAPH.order[0]: "so A= 1 ."})
