"""What one change sends and compiles does not grow with the mesh (the bench measures what it costs)."""

from tests.bench.scale_control import measure


async def test_a_task_that_moves_is_told_to_its_neighbours_alone_however_large_the_mesh_is():
    small, large = await measure(10, 1), await measure(30, 1)
    assert small["task"]["pushes"] == large["task"]["pushes"] == 90
    assert large["task"]["bytes"] < small["task"]["bytes"] * 1.1
    # A new revision is told to everyone, in a frame of its number and the rule that changed.
    assert [small["policy"]["pushes"], large["policy"]["pushes"]] == [100, 300]
    assert large["policy"]["bytes"] < 300 * 200
