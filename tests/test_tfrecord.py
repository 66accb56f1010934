"""Records against another package's writer; no damaged bit passes."""

from __future__ import annotations

import numpy as np
import pytest
from tensorboardX.record_writer import RecordWriter

from ssm_jax import tfrecord

CONTENTS = [b"", b"1", np.random.default_rng(0).bytes(9000)]


def test_records_are_those_of_tensorboard(tmp_path):
    writer = RecordWriter(str(tmp_path / "a"))
    for content in CONTENTS:
        writer.write(content)
    writer.close()
    assert (tmp_path / "a").read_bytes() == b"".join(map(tfrecord.record, CONTENTS))
    assert list(tfrecord.read(tmp_path / "a")) == CONTENTS


@pytest.mark.parametrize(
    ("place", "message"),
    [(0, "length of record 1"), (9, "length of record 1"), (13, "record 1"), (-1, "record 1")],
)
def test_a_damaged_byte_is_noticed(tmp_path, place, message):
    data = bytearray(tfrecord.record(b"content"))
    data[place] ^= 1
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(ValueError, match=f"{message} does not fit its checksum"):
        list(tfrecord.read(tmp_path / "a"))


def test_a_torn_file_is_noticed(tmp_path):
    (tmp_path / "a").write_bytes(tfrecord.record(b"content")[:-1])
    with pytest.raises(ValueError, match="ends within a record"):
        list(tfrecord.read(tmp_path / "a"))
