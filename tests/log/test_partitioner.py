from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner import murmur2 as murmur2_of_kafka

from streamer.log.partitioner import murmur2, partition_of


@given(st.binary(max_size=600))
def test_keys_are_hashed_as_by_kafkas_own_client(key):
    """Else a flow would change its partition with the program that feeds it."""
    assert murmur2(key) == murmur2_of_kafka(key)


def test_a_key_goes_where_the_java_client_sends_it():
    """Values of `Utils.murmur2` in Apache Kafka's own tests, as signed 32 bits."""
    cases = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    for key, signed in cases.items():
        assert murmur2(key) == signed % 2**32
        assert partition_of(key, 7) == (signed & 0x7FFFFFFF) % 7
