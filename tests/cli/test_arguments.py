"""Flag files and the value of a flag."""

import pytest

from ssm_jax import errors
from ssm_jax.cli import arguments


def test_a_flag_file_is_replaced_where_it_stands(tmp_path):
    (tmp_path / "inner").write_text("--c=3\n")
    (tmp_path / "outer").write_text(f"--b=2\n// no\n# no\n\n  --flagfile={tmp_path / 'inner'}  \n")
    argv = ["--a=1", "--flagfile", str(tmp_path / "outer"), f"-flagfile={tmp_path / 'inner'}", "d"]
    assert arguments.expand(argv) == ["--a=1", "--b=2", "--c=3", "--c=3", "d"]


def test_a_flag_file_that_holds_itself(tmp_path):
    path = tmp_path / "flags"
    path.write_text(f"--flagfile={path}\n")
    with pytest.raises(errors.InputError, match="holds itself"):
        arguments.expand([f"--flagfile={path}"])


def test_flag_files_without_end_are_refused(tmp_path):
    for number in range(11):
        inner = f"--flagfile={tmp_path / str(number + 1)}\n" * 10
        (tmp_path / str(number)).write_text(inner if number < 10 else "")
    with pytest.raises(errors.InputError, match="is one of more than 100 flag files"):
        arguments.expand([f"--flagfile={tmp_path / '0'}"])
    for number in range(1200):
        (tmp_path / str(number)).write_text(f"--flagfile={tmp_path / str(number + 1)}\n")
    with pytest.raises(errors.InputError, match="is one of more than 100 flag files"):
        arguments.expand([f"--flagfile={tmp_path / '0'}"])
    with (tmp_path / "0").open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(errors.InputError, match="it is larger than 1,048,576 bytes"):
        arguments.expand([f"--flagfile={tmp_path / '0'}"])


def test_a_flag_file_that_is_no_text(tmp_path):
    (tmp_path / "flags").write_bytes(b"\xff\xfe")
    with pytest.raises(errors.InputError, match="is no text"):
        arguments.expand([f"--flagfile={tmp_path / 'flags'}"])


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        (["--config=a"], "a"),
        (["-config", "a"], "a"),
        (["--config=a", "--config=b:c=d"], "b:c=d"),
        (["--config"], ""),
        (["--config.seed=1", "--configs=2"], None),
        ([], None),
    ],
)
def test_the_last_value_of_a_flag_counts(argv, value):
    assert arguments.value_of("config", argv) == value
