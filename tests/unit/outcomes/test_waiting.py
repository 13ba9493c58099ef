from pointsman_operator.outcomes.segments import Chunk
from pointsman_operator.outcomes.waiting import Numbered, WaitingRecords

MANY = 1_000


def waiting(*contents: bytes, most_records: int = MANY, most_bytes: int = MANY) -> WaitingRecords:
    made = WaitingRecords(10, most_records, most_bytes)
    for content in contents:
        made.append(content)
    return made


def test_the_oldest_go_when_there_are_too_many() -> None:
    records = waiting(b"a", b"b", most_records=2)
    assert records.append(b"c") == 1
    assert records.read(0, MANY, MANY) == Chunk((b"b", b"c"), 13)


def test_the_oldest_go_when_they_are_too_large() -> None:
    records = waiting(b"aa", b"bb", most_bytes=5)
    assert records.append(b"ccc") == 1
    assert (len(records), records.size_bytes) == (2, 5)


def test_records_are_read_from_a_number_on_and_at_least_one() -> None:
    records = waiting(b"aaaa", b"b", b"c", b"d")
    assert records.read(0, MANY, 1) == Chunk((b"aaaa",), 11)
    assert records.read(11, 2, MANY) == Chunk((b"b", b"c"), 13)
    assert records.read(14, MANY, MANY) == Chunk((), 14)


def test_what_is_being_written_can_be_read_and_counts() -> None:
    records = waiting(b"a", b"b", b"c")
    assert records.start_writing(2, MANY) == [Numbered(10, b"a"), Numbered(11, b"b")]
    assert len(records) == 3
    assert records.read(0, MANY, MANY).records == (b"a", b"b", b"c")


def test_what_was_not_written_comes_first_again() -> None:
    records = waiting(b"a", b"b", b"c")
    records.start_writing(2, MANY)
    records.end_writing(0)
    assert records.read(0, MANY, MANY) == Chunk((b"a", b"b", b"c"), 13)
    records.start_writing(2, MANY)
    records.end_writing(12)
    assert records.read(0, MANY, MANY) == Chunk((b"c",), 13)
    assert records.size_bytes == 1


def test_records_with_a_gap_between_them_are_not_written_together() -> None:
    records = waiting(b"a", b"b", most_records=2)
    records.start_writing(1, MANY)
    records.append(b"c")
    records.append(b"d")
    records.end_writing(0)
    assert [one.number for one in records.start_writing(MANY, MANY)] == [12, 13]
    records = waiting(b"a", b"b", b"c", most_records=4)
    records.start_writing(1, MANY)
    records._waiting.popleft()
    records.end_writing(0)
    assert [one.number for one in records.start_writing(MANY, MANY)] == [10]


def test_acknowledged_records_go() -> None:
    records = waiting(b"a", b"b", b"c")
    records.forget(12)
    assert records.read(0, MANY, MANY).records == (b"c",)
    assert records.size_bytes == 1


def test_records_move_behind_those_of_an_earlier_process() -> None:
    records = waiting(b"a", b"b")
    records.move_behind(5)
    assert records.read(0, MANY, MANY).end == 12
    records.move_behind(20)
    assert records.read(0, MANY, MANY) == Chunk((b"a", b"b"), 22)
    records.append(b"c")
    assert records.read(22, MANY, MANY) == Chunk((b"c",), 23)
