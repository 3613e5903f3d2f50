"""The pairs that every cell samples: ChaCha8, a stream for each thing that is sampled."""

import struct

SEED = 0x5EED_0F9A_1125
ROW_PAIRS, QUERY_PAIRS = 1, 2


def key(seed):
    """32 bytes from a seed of 64 bits: eight outputs of PCG32."""
    out = b""
    for _ in range(8):
        seed = (seed * 0x5851_F42D_4C95_7F2D + 0xA176_54E4_6FBE_17F3) % 2**64
        mixed = ((seed >> 18 ^ seed) >> 27) % 2**32
        turn = seed >> 59
        out += struct.pack("<I", (mixed >> turn | mixed << (32 - turn)) % 2**32)
    return out


def block(key_words, counter, stream):
    """One block of ChaCha with eight rounds (Bernstein 2008), as sixteen words."""
    state = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *key_words]
    state += [counter % 2**32, counter >> 32, stream % 2**32, stream >> 32]
    mixed = list(state)

    def turn(at, by, word):
        value = mixed[at] ^ mixed[word]
        mixed[at] = (value << by | value >> (32 - by)) % 2**32

    def quarter(a, b, c, d):
        for x, y, z, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            mixed[x] = (mixed[x] + mixed[y]) % 2**32
            turn(z, by, x)

    for _ in range(4):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return [(a + b) % 2**32 for a, b in zip(mixed, state)]


def below(seed, stream):
    """A function that draws a number below its argument: the high half of 64 random bits times it."""

    def words():
        key_words, counter = struct.unpack("<8I", key(seed)), 0
        while True:
            of = block(key_words, counter, stream)
            yield from (of[i] | of[i + 1] << 32 for i in range(0, 16, 2))
            counter += 1

    random = words()
    return lambda bound: next(random) * bound >> 64


def words(seed):
    """Words of 32 bits, of stream 0."""
    key_words, counter = struct.unpack("<8I", key(seed)), 0
    while True:
        yield from block(key_words, counter, 0)
        counter += 1


def row_pairs(rows, pairs, seed=SEED):
    """Pairs (i, j) of different rows."""
    draw = below(seed, ROW_PAIRS)
    drawn = ((draw(rows), draw(rows - 1)) for _ in range(pairs))
    return [(i, j + (j >= i)) for i, j in drawn]


def query_pairs(queries, rows, pairs, seed=SEED):
    """Pairs (query, row), by row and then by query."""
    draw = below(seed, QUERY_PAIRS)
    drawn = [(draw(queries), draw(rows)) for _ in range(pairs)]
    return sorted(drawn, key=lambda pair: (pair[1], pair[0]))


# Values that were stored with results.
first = below(42, ROW_PAIRS)
assert [first(1000) for _ in range(6)] == [716, 166, 482, 846, 66, 773]
assert row_pairs(100, 4, 42) == [(71, 16), (48, 84), (6, 77), (12, 5)]
