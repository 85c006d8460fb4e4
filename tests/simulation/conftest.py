"""Seeds: some dozens in every run, any number or a single one when asked for."""


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        one, number = metafunc.config.getoption("seed"), metafunc.config.getoption("seeds")
        seeds = range(number) if one is None else [one]
        metafunc.parametrize("seed", seeds, scope="module")  # a world serves all its tests
