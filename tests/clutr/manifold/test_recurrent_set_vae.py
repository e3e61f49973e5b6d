"""The recurrent set VAE: what its parts guarantee, and that it learns small tasks exactly."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clutr.envs.car.domain import CarDomain
from clutr.envs.maze.domain import MazeDomain
from clutr.experiments.storage import load_state, save_state
from clutr.manifold.recurrent_set_vae import RecurrentSetNetwork, RecurrentSetVAEConfig
from clutr.manifold.set_reader import CellEmbedding, SetReader

DOMAIN = MazeDomain(height=4, width=3, max_obstacles=4)
TINY = RecurrentSetVAEConfig(
    latent=6, embedding=5, encoder=4, decoder=7, hidden=9, refinements=2, iterations=12, batch_size=16
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tasks(n: int, seed: int = 0) -> torch.Tensor:
    return DOMAIN.to_tokens(DOMAIN.sample(n, rng(seed)))


def test_cells_share_what_their_rows_columns_and_parts_say() -> None:
    embedding = CellEmbedding(DOMAIN, 3)
    with torch.no_grad():
        embedding.cell.weight.zero_()
        for value, each in enumerate((embedding.row, embedding.column, embedding.part)):
            each.weight.zero_()
            each.weight[:, value] = torch.arange(each.num_embeddings).float()
        tokens = torch.tensor([[1, 6, 12, 0, 13]])  # three columns: cell 6 is row 1, column 2; 0 and 13 are no cells
        found = embedding(tokens, torch.tensor([[-5, 0, 1, 2, 9]]))
    assert found[0].tolist() == [[0, 0, 0], [1, 2, 0], [3, 2, 1], [4, 3, 2], [4, 3, 2]]


def test_padding_does_not_change_a_code() -> None:
    reader = SetReader(DOMAIN, 5, 4, 6)
    reader.initialise(rng())
    each = tasks(20)
    shortest = int((each > 0).sum(1).min())
    short = each[(each > 0).sum(1) == shortest][:, :shortest]
    wide = torch.nn.functional.pad(short, (0, 7))
    torch.testing.assert_close(reader(short), reader(wide))


def test_the_encoder_reads_in_both_directions_and_knows_goal_from_agent() -> None:
    reader = SetReader(DOMAIN, 5, 4, 6)
    reader.initialise(rng())
    codes = reader(torch.tensor([[1, 2, 5, 9], [2, 1, 5, 9], [1, 2, 9, 5]]))
    assert (codes[0] - codes[1]).abs().max() > 1e-4, "order"
    assert (codes[0] - codes[2]).abs().max() > 1e-3, "parts"


def test_the_loss_does_not_depend_on_how_a_batch_is_grouped() -> None:
    network = RecurrentSetNetwork(TINY, DOMAIN, 1)
    with torch.no_grad():
        network.log_variance.fill_(-60.0)  # no noise
    each = tasks(16)
    whole, parts = network.loss(each, 99, 100, rng())
    alone = [network.loss(row[None], 99, 100, rng()) for row in each]
    assert whole.item() == pytest.approx(sum(loss.item() for loss, _ in alone) / 16, rel=1e-4)
    found = sum(float(of["reconstruction"]) for _, of in alone) / 16
    assert float(parts["reconstruction"]) == pytest.approx(found, rel=1e-4)


def test_reported_reconstruction_is_the_decoders_code_length() -> None:
    network = RecurrentSetNetwork(TINY, DOMAIN, 1).eval()
    with torch.no_grad():
        network.log_variance.fill_(-60.0)
    each = tasks(16)
    _, parts = network.loss(each, 1, 1, rng())
    mean, _ = network.posterior(each)
    assert float(parts["reconstruction"]) == pytest.approx(network.nats(mean, each).mean().item(), rel=1e-4)


def test_the_decoder_joins_late() -> None:
    network = RecurrentSetNetwork(replace(TINY, decoder_joins=0.5), DOMAIN, 1).train()
    network.loss(tasks(16), 4, 10, rng())[0].backward()
    assert all(parameter.grad is None for parameter in network.decoder.parameters())
    assert network.reader.ahead.weight_hh_l0.grad is not None
    network.loss(tasks(16), 5, 10, rng())[0].backward()
    assert all(parameter.grad is not None for parameter in network.decoder.parameters())


@pytest.mark.parametrize("law", ["hazard", "softmax"])
def test_any_latent_decodes_to_a_bounded_set_without_repeats(law: str) -> None:
    network = RecurrentSetNetwork(replace(TINY, law=law), DOMAIN, 1)  # type: ignore[arg-type]  # a Literal
    decoded = network.decode_tokens(5 * torch.randn(200, 6, generator=rng()))
    assert decoded.shape == (200, 6)
    count = (decoded > 0).sum(1)
    assert int(count.min()) >= 2, "goal and agent are always there"
    for row, length in zip(decoded.tolist(), count.tolist(), strict=True):
        members = row[: length - 2]
        assert len(set(members)) == len(members)
        assert law == "softmax" or members == sorted(members)
        assert row[length:] == [0] * (6 - length)


def test_roads_always_have_their_number_of_control_points() -> None:
    domain = CarDomain()
    network = RecurrentSetNetwork(replace(TINY, decoder_joins=0), domain, 1)
    with torch.no_grad():
        network.member.bias.fill_(-9.0)  # no cell is likely
    decoded = network.decode_tokens(torch.randn(8, 6, generator=rng()))
    assert [len(set(row)) for row in decoded.tolist()] == [12] * 8
    assert int(decoded.min()) > 0
    with torch.no_grad():
        network.member.bias.fill_(9.0)  # every cell is
    assert network.decode_tokens(torch.randn(2, 6, generator=rng())).tolist() == [list(range(1, 13))] * 2


@pytest.mark.parametrize("law", ["hazard", "softmax"])
def test_a_few_tasks_are_learnt_exactly(law: str) -> None:
    shuffle = law == "softmax"
    config = RecurrentSetVAEConfig(
        latent=8, embedding=8, encoder=16, decoder=16, hidden=16, refinements=1, iterations=50, batch_size=12,
        corpus_size=12, learning_rate=3e-2, decoder_joins=0.3, law=law, shuffle=shuffle,  # type: ignore[arg-type]
    )  # fmt: skip
    training = config.pretraining(config.build(DOMAIN, 1), DOMAIN, 1)
    while not training.done:
        training.step()
    levels, _ = DOMAIN.from_tokens(training.corpus.batch(0))
    decoded = training.manifold.decode(training.manifold.encode(levels))
    right = [one == other for one, other in zip(levels.key(), decoded.key(), strict=True)]
    assert sum(right) >= 0.9 * len(right)


def test_a_training_resumes_bit_for_bit_from_its_file(tmp_path: Path) -> None:
    whole = TINY.pretraining(TINY.build(DOMAIN, 1), DOMAIN, 1)
    halves = TINY.pretraining(TINY.build(DOMAIN, 1), DOMAIN, 1)
    for _ in range(7):  # past the step at which the decoder joins
        halves.step()
    save_state(tmp_path / "half", halves.state_dict())
    resumed = TINY.pretraining(TINY.build(DOMAIN, 9), DOMAIN, 1)
    resumed.load_state_dict(load_state(tmp_path / "half"))
    for training in (whole, resumed):
        while not training.done:
            training.step()
    expected, found = (each.manifold.state_dict()["network"] for each in (whole, resumed))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shuffle": True}, "law: 'hazard' needs ascending tasks, and shuffle is on; choose law: softmax"),
        ({"law": "pointer"}, "law must be hazard or softmax, got 'pointer'"),
        ({"supervision": 0.0}, "decoder_joins: must be 0 where supervision is 0"),
        ({"decoder_joins": 1.5}, "decoder_joins must be in 0..1, got 1.5"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecurrentSetVAEConfig(**options)  # type: ignore[arg-type]  # that is the test
