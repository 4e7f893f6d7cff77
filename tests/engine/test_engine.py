"""What the engine promises to callers: order, limits, updates, endings, and that a bad request hurts nobody else."""

import threading
from dataclasses import dataclass, replace

import pytest
import torch

import remask
from remask import RemaskError
from remask.engine import Engine, QueueFull, Request, packing
from remask.engine.packing import packs, usual_cost
from remask.models.guidance import Guided
from tests.chains import chain_b
from tests.engine.mixes import alone, mix, told
from tests.networks import network


def run(engine):
    while engine.step():
        pass


def test_updates_tell_every_step_and_add_up_to_the_result():
    engine = Engine(chain_b())
    ticket = engine.submit(Request([1, 2], 12, decoder=remask.parse_decoder("joint_threshold:write_tau=0.4,edit_tau=0.5,remask=true"), confidence=True))
    quiet = engine.submit(Request([1, 2], 12, updates=False))
    run(engine)
    tokens, masked = torch.tensor([1, 2] + [8] * 12), torch.tensor([False] * 2 + [True] * 12)
    updates = list(ticket)
    for number, update in enumerate(updates):
        assert (update.written & update.remasked).sum() == 0
        assert torch.equal((masked & ~update.written) | update.remasked, update.masked)
        assert torch.equal(torch.where(update.written | update.remasked, update.tokens, tokens), update.tokens)
        assert update.forwards == number + 1
        assert update.confidence.shape == update.tokens.shape
        assert update.done == (number == len(updates) - 1)
        tokens, masked = update.tokens, update.masked
    assert ticket.result(0) is updates[-1]
    assert updates[-1].reason == "length"
    assert updates[-1].answer.tolist() == tokens[2:].tolist()
    assert len(list(quiet)) == 1
    assert quiet.result(0).confidence is None


def test_reasons_are_stop_length_budget_deadline_and_cancelled():
    model = network("llada")
    model.eos_ids = (7,)  # bias makes it certain
    with torch.no_grad():
        model.parts["ff_out" if "ff_out" in model.parts else "wte"].weight[7] *= 30
    engine = Engine(model)
    asked = {
        "stop": Request([1], 16, decoder=remask.Threshold(0.0)),
        "length": Request([1], 4, shapers=(remask.Suppress((7,)),), early_stop=False),
        "budget": Request([1], 16, max_forwards=3, early_stop=False),
        "deadline": Request([1], 16, deadline=0.0),
        "cancelled": Request([1], 16),
    }
    tickets = {reason: engine.submit(request) for reason, request in asked.items()}
    tickets["cancelled"].cancel()
    run(engine)
    for reason, ticket in tickets.items():
        assert ticket.result(0).reason == reason
        assert ticket.finished >= ticket.submitted
    budget = tickets["budget"].result(0)
    assert (budget.forwards, int(budget.masked.sum())) == (3, 13)
    assert tickets["deadline"].result(0).forwards == 0


def test_rows_that_run_are_cancelled_at_the_next_step_and_leave_the_others_alone():
    model = chain_b()
    requests = mix(4, 6, 8, 8, ["low_confidence"], longest=20)
    engine = Engine(model)
    tickets = [engine.submit(request) for request in requests]
    engine.step()
    tickets[1].cancel()
    tickets[4].cancel()
    engine.step()
    assert tickets[1].result(0).reason == tickets[4].result(0).reason == "cancelled"
    run(engine)
    for number in (0, 2, 3, 5):
        assert told(tickets[number].result(0)) == alone(model, requests[number])


def test_a_full_queue_and_what_can_never_run_are_refused_at_once():
    engine = Engine(network("llada"), max_rows=1, queue=2, memory=2_000_000)
    for _ in range(2):
        engine.submit(Request([1], 8))
    with pytest.raises(QueueFull, match="2 requests wait"):
        engine.submit(Request([1], 8))
    run(engine)
    for request, match in [
        (Request([1], 100), "64"),
        (Request([1, 99], 5), "token 99"),
        (Request([1], -1), "-1"),
        (Request([1], 4, max_forwards=0), "max_forwards is 0"),
        (Request([], 0), "no positions"),
    ]:
        with pytest.raises(RemaskError, match=match):
            engine.submit(request)
    with pytest.raises(RemaskError, match="needs"):
        Engine(network("llada"), memory=10_000).submit(Request([1], 40))
    assert engine.waiting == engine.running == 0


@pytest.mark.parametrize("forward_cost", [0, 16])
def test_memory_is_never_exceeded_and_a_large_request_is_not_overtaken(forward_cost):
    model = chain_b()
    whole = Engine(model)
    sizes = [4, 4, 40, 4, 4, 4, 4]
    one = whole._prepared(whole.submit(Request([], 40))).nbytes
    engine = Engine(model, memory=int(one * 1.05), forward_cost=forward_cost)
    tickets = [engine.submit(Request([], size)) for size in sizes]
    started: list[int] = []
    running = True
    while running:
        running = engine.step()
        assert sum(engine._needs([cohort]) for cohort in engine._cohorts) <= engine.memory
        started += [number for number, ticket in enumerate(tickets) if ticket.admitted and number not in started]
    assert started == sorted(started)
    assert all(ticket.result(0).reason == "length" for ticket in tickets)
    assert tickets[2].admitted >= max(tickets[0].finished, tickets[1].finished), "it waited for room of its own"


@dataclass(frozen=True)
class Fragile(remask.LowConfidence):
    """Fails on rows whose prompt starts with `bad`, at their third step."""

    bad: int = 5

    def step(self, view, state):
        if ((view.canvas.tokens[:, 0] == self.bad) & (view.step == 2)).any():
            raise ZeroDivisionError("a part's own mistake")
        return super().step(view, state)


@pytest.mark.parametrize("reuse", ["fresh", "surelock:eps=0.1"])
def test_an_error_stays_with_its_request(reuse):
    model = network("llada")
    parts = dict(reuse=remask.parse_reuse(reuse))
    requests = [Request([first, 2], 10, decoder=Fragile(), seed=first, **parts) for first in (1, 5, 3)] + [Request([5, 3], 7, **parts)]
    engine = Engine(model)
    tickets = [engine.submit(request) for request in requests]
    run(engine)
    with pytest.raises(ZeroDivisionError, match="own mistake"):
        tickets[1].result(0)
    assert tickets[1]._last.reason == "error"
    for number in (0, 2, 3):
        assert told(tickets[number].result(0)) == alone(model, requests[number])


@dataclass(frozen=True)
class Shy(remask.LowConfidence):
    """Begins no row whose prompt starts with 5."""

    def init(self, canvas):
        if (canvas.tokens[:, 0] == 5).any():
            raise ZeroDivisionError("a part's own mistake")
        return super().init(canvas)


def test_a_row_that_cannot_begin_ends_with_its_error_and_those_behind_it_are_admitted():
    model, decoder = network("llada"), Shy()
    requests = [Request([first, 2], 6, decoder=decoder) for first in (1, 5, 3)]
    engine = Engine(model, max_rows=1)
    tickets = [engine.submit(request) for request in requests]
    run(engine)
    with pytest.raises(ZeroDivisionError, match="own mistake"):
        tickets[1].result(0)
    for number in (0, 2):
        assert told(tickets[number].result(0)) == alone(model, requests[number])


class Spoilt(remask.testing.MarkovDenoiser):
    """NaN for rows that hold a 3 at the start: a checkpoint with a hole."""

    def head(self, hidden):
        return super().head(hidden)

    def forward(self, canvas, chosen=None, store=None):
        found, store = super().forward(canvas, chosen, store)
        return found.masked_fill((canvas.tokens[:, :1] == 3)[..., None], float("nan")), store


def test_a_row_with_nan_fails_alone():
    chain = chain_b()
    engine = Engine(Spoilt(chain.initial, chain.transition))
    good, bad = engine.submit(Request([1], 6)), engine.submit(Request([3], 6))
    run(engine)
    assert told(good.result(0)) == alone(chain, good.request)
    with pytest.raises(RemaskError, match="NaN"):
        bad.result(0)


def test_a_part_that_cannot_be_stepped_is_refused_when_it_comes():
    @dataclass(frozen=True)
    class Lists(remask.LowConfidence):
        def init(self, canvas):
            return [1]

    with pytest.raises((RemaskError, AttributeError)):
        Engine(chain_b()).submit(Request([1], 4, decoder=Lists()))


def test_a_thread_serves_many_callers_and_closing_finishes_what_runs():
    model = chain_b()
    engine = Engine(model, max_rows=3).start()
    requests = mix(9, 8, 8, 8)
    found = {}

    def call(number):
        found[number] = told(engine.submit(requests[number]).result(60))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {number: alone(model, request) for number, request in enumerate(requests)}
    late = [engine.submit(request) for request in requests[:4]]
    engine.close()
    assert all(ticket.done for ticket in late)
    with pytest.raises(RemaskError, match="closed"):
        engine.submit(requests[0])


def test_a_defect_of_the_engine_reaches_callers_and_the_thread_goes_on(monkeypatch):
    engine = Engine(chain_b()).start()
    real = engine._admit

    def broken():
        monkeypatch.setattr(engine, "_admit", real)
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(engine, "_admit", broken)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        engine.submit(Request([1], 4)).result(60)
    assert engine.submit(Request([1], 4)).result(60).reason == "length"
    engine.close()


def test_closing_without_draining_cancels():
    engine = Engine(chain_b(), max_rows=1)
    tickets = [engine.submit(Request([1], 20)) for _ in range(3)]
    engine.step()
    engine.close(drain=False)
    assert [ticket.result(0).reason for ticket in tickets] == ["cancelled"] * 3


def test_waiting_for_a_result_has_an_end_and_nothing_to_write_is_done_at_once():
    engine = Engine(chain_b())
    with pytest.raises(TimeoutError, match=r"0\.01"):
        engine.submit(Request([1], 4)).result(0.01)
    complete = engine.submit(Request([1, 2, 3], 0)).result(0)
    assert (complete.reason, complete.forwards, complete.tokens.tolist()) == ("length", 0, [1, 2, 3])


def cost(bundles, counts, lengths, forward_cost):
    return sum(forward_cost + sum(counts[i] for i in bundle) * max(lengths[i] for i in bundle) for bundle in bundles)


def partitions(items):
    if not items:
        yield []
        return
    for rest in partitions(items[1:]):
        yield [[items[0]], *rest]
        for number, bundle in enumerate(rest):
            yield [*rest[:number], [items[0], *bundle], *rest[number + 1 :]]


@pytest.mark.parametrize("forward_cost", [0, 10, 50, 1000])
def test_packing_is_the_cheapest_of_all_partitions(forward_cost):
    counts, lengths = [1, 3, 2, 1, 4], [30, 12, 45, 14, 30]
    found = packs(counts, lengths, forward_cost)
    assert sorted(index for bundle in found for index in bundle) == list(range(5))
    assert cost(found, counts, lengths, forward_cost) == min(cost(bundles, counts, lengths, forward_cost) for bundles in partitions(list(range(5))))


def test_a_forward_is_worth_more_of_a_small_network_on_a_gpu(monkeypatch):
    network = torch.nn.Linear(3, 3)
    assert usual_cost(network) == 512
    network.device = torch.device("cuda")  # nothing is moved there
    assert usual_cost(network) == 4096
    monkeypatch.setattr(packing, "LARGE", 12)
    assert usual_cost(network) == 256
    guided = Guided.__new__(Guided)
    guided.model = network
    assert usual_cost(guided) == 256, "and of one around it as of itself"
    network.forward_cost = 7
    assert usual_cost(network) == usual_cost(guided) == 7


def waves(engine, tickets):
    """The names of the rows that were admitted at each step."""
    found, known = [], set()
    while engine.step():
        new = [name for name, ticket in tickets.items() if ticket.admitted and name not in known]
        known |= set(new)
        found += [new] if new else []
    return found


def test_clients_take_turns_and_each_is_served_in_the_order_of_arrival():
    engine = Engine(chain_b(), max_rows=2)
    asked = [*(f"a{n}" for n in range(6)), "b0", "b1", "c0"]
    tickets = {name: engine.submit(Request([1], 4, client=name[0])) for name in asked}
    assert [name for wave in waves(engine, tickets) for name in sorted(wave)] == ["a0", "b0", "a1", "c0", "a2", "b1", "a3", "a4", "a5"]


def test_a_client_with_a_thousand_requests_does_not_starve_one_that_comes_late():
    engine = Engine(chain_b(), max_rows=4, queue=4096)
    many = [engine.submit(Request([1], 2, client="a")) for _ in range(1000)]
    engine.step()
    late = engine.submit(Request([1], 2, client="b"))
    for _ in range(4):
        engine.step()
    assert late.done
    assert sum(ticket.done for ticket in many) < 12
    engine.close(drain=False)


def test_a_client_leaves_half_of_what_is_free_to_others_and_nobody_in_particular_may_fill_it():
    engine = Engine(chain_b(), queue=16)
    for client, count in (("a", 8), ("b", 4), ("c", 2), ("", 2)):
        for _ in range(count):
            engine.submit(Request([1], 4, client=client))
        with pytest.raises(QueueFull):
            engine.submit(Request([1], 4, client=client))
    assert engine.waiting == 16
    run(engine)


def test_a_row_that_is_cancelled_while_it_waits_costs_nobody_a_turn():
    engine = Engine(chain_b(), max_rows=1)
    tickets = {name: engine.submit(Request([1], 2, client=name[0])) for name in ("a0", "a1", "b0", "c0", "a2")}
    tickets["b0"].cancel()
    tickets["a1"].cancel()
    assert waves(engine, tickets) == [["a0"], ["c0"], ["a2"]]
    assert engine.waiting == 0


def test_a_row_that_may_grow_is_admitted_where_it_fits_at_its_longest():
    window = remask.parse_window("daedal:eos=0,block=6,first=0,enough=2,low=2,factor=4,length=4")
    model = chain_b()
    request = Request([1, 2], 20, window=window)
    one = Engine(model)._prepared(Engine(model).submit(request)).nbytes
    engine = Engine(model, memory=int(one * 1.9))
    first, second = engine.submit(request), engine.submit(replace(request, seed=1))
    engine.step()
    assert (first.admitted is None, second.admitted is None) == (False, True), "two would fit as short as they begin"
    while engine.step():
        assert sum(engine._needs([cohort]) for cohort in engine._cohorts) <= engine.memory
    assert len(first.result(0).tokens) == 22
    assert second.admitted >= first.finished


def test_a_row_grows_no_longer_than_the_model_reaches_and_an_infill_does_not_grow():
    window = remask.parse_window("daedal:eos=0,block=6,first=0,enough=2,low=2,factor=4,length=4")
    model = network("llada")
    engine = Engine(model)
    ticket = engine.submit(Request([1] * 50, 30, window=window))
    assert engine._waiting.first().longest == model.max_length == 64
    run(engine)
    assert len(ticket.result(0).tokens) == 64
    assert len(ticket.result(0).answer) == 14
    with pytest.raises(RemaskError, match=r"daedal.*infill"):
        engine.submit(Request([1, model.mask_id], 0, window=window))
