"""Who is compared with whom, and what is asked of us."""

import dataclasses
import math

import rivals


@dataclasses.dataclass
class Match:
    """A rival beside a method of ours with the same bits per coordinate, centre and rotation."""

    rival: object
    method: str
    params: dict
    # Scalars that a code of ours has, each 2 or 4 bytes as `scalars` says; 0: there is no such choice.
    scalars: int = 0
    # Times the rival's vectors encoded per second, and its queries. None: no speed of encoding is asked for, and
    # search is not timed.
    encode_goal: float | None = None
    search_goal: float | None = 1.0

    def code_bytes(self, dim, settings):
        """Of ours where bits and scalars say it, else None."""
        if not self.scalars or "rate" in settings:
            return None
        coded = math.ceil(dim * settings["bits"] / 8) + math.ceil(dim * settings.get("residual", 0) / 8)
        return coded + self.scalars * (2 if settings["scalars"] == "f16" else 4)

    def settings(self, dim, rival_bytes):
        """Ours: the same bits with the scalars whose bytes are nearest, then exactly the rival's bytes."""
        if "bits" not in self.params:
            return [dict(self.params)]
        same_bits = dict(self.params)
        if self.scalars:
            choices = [self.params | {"scalars": scalars} for scalars in ("f16", "f32")]
            same_bits = min(choices, key=lambda choice: abs(self.code_bytes(dim, choice) - rival_bytes))
        if self.code_bytes(dim, same_bits) == rival_bytes or "residual" in self.params:
            return [same_bits]
        if self.scalars and self.params["bits"] == 8 and self.code_bytes(dim, same_bits) < rival_bytes:
            # 8 bits and f32 are the most that there is.
            return [same_bits]
        rate = {name: value for name, value in self.params.items() if name != "bits"}
        # A hundredth of a byte more, lest a rounding takes one.
        return [same_bits, rate | {"rate": (rival_bytes + 0.01) * 8 / dim, "scalars": "f16"}]


def dense(bits, **more):
    return {"bits": bits, "rotation": "dense"} | more


def quality():
    """At equal rotation: dense beside FAISS and turbovec, Hadamard beside rabitqlib."""
    found = []
    for bits in (1, 2, 4, 8):
        found.append(Match(rivals.Faiss("RaBitQ", bits), "rabitq", dense(bits, search="exact"), 2))
    for bits in (1, 2, 4, 8):
        found.append(Match(rivals.Faiss("EDEN", bits), "eden", dense(bits, scale="unbiased"), 2))
    own = {"center": "none", "variant": "mse"}
    for bits in (1, 2, 4, 8):
        rival = rivals.Faiss("TurboQuant mse", bits, metric="cosine")
        found.append(Match(rival, "turboquant", dense(bits, scale="none", **own), 1))
    for bits in (2, 3, 4):
        rival = rivals.Faiss("TurboQuant prod", bits, metric="cosine")
        params = dense(bits, center="none", variant="prod", sketch="rotation")
        found.append(Match(rival, "turboquant", params, 2))
    for calibrated in (False, True):
        for bits in (2, 4):
            params = dense(bits, scale="unbiased", **own)
            found.append(Match(rivals.TurboVec(bits, calibrated), "turboquant", params, 2))
    for bits in (1, 2, 4, 8):
        for fast in (False, True)[: 1 + (bits > 1)]:
            params = {"bits": bits, "search": "fast" if fast else "exact", "rotation": "hadamard"}
            found.append(Match(rivals.RabitqLib(bits, fast), "rabitq", params, 2))
    for bits in (2, 4, 8):
        found.append(Match(rivals.RabitqLib(bits), "saq", {"bits": bits}))
    for bits, residual in ((8, 0), (4, 4)):
        params = {"bits": bits, "residual": residual, "rotation": "none"}
        found.append(Match(rivals.Svs(bits, residual), "lvq", params, 2))
    found.append(Match(rivals.FaissItq(), "binary", {"rotation": "itq"}))
    return found


def speed():
    """The same rotation on both sides; FAISS's Hadamard pads to a power of two."""
    usual = {"as_installed": True}
    found = [Match(rivals.RabitqLib(1, **usual), "rabitq", {"bits": 1}, 2, 1.5)]
    for bits in (2, 4, 8):
        found.append(
            Match(rivals.RabitqLib(bits, fast=True, **usual), "rabitq", {"bits": bits, "search": "fast"}, 2, 3.0)
        )
    for bits, goal in ((4, 5.0), (8, 3.0)):
        found.append(Match(rivals.RabitqLib(bits, **usual), "rabitq", {"bits": bits, "search": "exact"}, 2, goal))
    found.append(Match(rivals.RabitqLib(4, **usual), "saq", {"bits": 4}, 0, 10.0, None))
    for bits in (1, 4, 8):
        goal = None if bits == 1 else 20.0
        params = {"bits": bits, "search": "fast"}
        found.append(Match(rivals.Faiss("RaBitQ", bits, "hadamard", **usual), "rabitq", params, 2, goal))
    for bits in (1, 4):
        params = {"bits": bits, "search": "fast"}
        found.append(Match(rivals.Faiss("RaBitQ FastScan", bits, "hadamard"), "rabitq", params, 2))
    for rotation, goal in (("hadamard", 5.0), ("dense", 2.0)):
        params = {"bits": 4, "rotation": rotation}
        found.append(Match(rivals.Faiss("EDEN", 4, rotation), "eden", dict(params), 2, goal))
        params |= {"scale": "none", "center": "none"}
        found.append(Match(rivals.Faiss("TurboQuant mse", 4, rotation), "turboquant", params, 1, goal))
    for bits in (2, 4):
        params = dense(bits, scale="unbiased", center="none")
        found.append(Match(rivals.TurboVec(bits), "turboquant", params, 2))
    found.append(Match(rivals.Svs(8), "lvq", {"bits": 8, "residual": 0}, 2))
    return found
