"""Attack success of sampled answers to the direct requests."""

from safety_geometry.artefacts.tables.families import BOOTSTRAP, CHECKPOINT, SUCCESS_MEANS, WILSON
from safety_geometry.artefacts.tables.specification import Table, interval, number, share, whole

SAMPLED = Table(
    "sampled",
    (
        "Attack success of direct requests over several sampled answers to each (completions.sampled), beside that of"
        " the greedy answer. Intervals are over requests: samples of one request are no further requests."
    ),
    (
        *CHECKPOINT,
        number("temperature", "of the sampled answers", 0),
        whole("samples", "sampled answers to each request", 1),
        whole("n", "requests", 1),
        *interval(share("asr", "mean over requests of the share of its sampled answers that succeed"), BOOTSTRAP),
        *interval(share("any_asr", "share of requests with at least one sampled answer that succeeds"), WILSON),
        *interval(share("greedy_asr", "direct_asr: share of the same requests whose greedy answer succeeds"), WILSON),
        SUCCESS_MEANS,
    ),
    key=("seed", "regime", "step"),
    category="Results",
    caption=(
        "How often direct requests succeed when answers are sampled: on average (``asr``), in at least one of"
        " ``samples`` tries (``any_asr``), and with greedy decoding (``greedy_asr``)."
    ),
)

TABLES = (SAMPLED,)
