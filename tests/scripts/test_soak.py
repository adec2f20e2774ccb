from conftest import script, succeed


def test_an_experiment_that_is_interrupted_at_random_gives_the_results_of_an_undisturbed_one():
    said = succeed(script("scripts/soak.sh", "--minutes", "0.5", "--seed", "1")).stdout
    assert "interruptions" in said.splitlines()[-1] and said.endswith(" 0 failed.\n")
