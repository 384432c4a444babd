"""One search of a study: what its method is told and allowed, and how it ends."""

from dataclasses import replace

import pytest
from study_fakes import (
    BUDGET,
    TRAIN_SIZE,
    Killed,
    MemoryStore,
    OrderToy,
    Raising,
    Toy,
    Trainer,
    filled,
    make_setting,
    make_study,
    run,
    toys,
)

from prunepeft_ray.architecture import Architecture, Module, Slot
from prunepeft_ray.errors import InputError
from prunepeft_ray.execution.study.search import StudySearch
from prunepeft_ray.jobs import Decision, Work
from prunepeft_ray.methods import MethodInfo
from prunepeft_ray.pruning import GeneratorMethod, PrunePEFT

ONES = [filled(0), filled(1)], [filled(2), filled(3)]


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def trainer(store):
    return Trainer(store)


def told(store, method, seed=0):
    """What a search was told: kind, label and seed of the retraining, in that order."""
    found = (one for one in store.requests.values() if (one.method, one.seed) == (method, seed))
    return [(one.kind, one.label, one.retrain_seed) for one in sorted(found, key=lambda one: one.position)]


def labels(trainer):
    return [work.label for work in trainer.ran]


def built(methods, make, **info):
    """Register a method ``toy``; the list will hold what is built of it."""
    found = []

    def build(problem, options):
        found.append(make(problem))
        return found[-1]

    methods(toy=MethodInfo("toy", build, **info))
    return found


def failure(store, method="toy", seed=0):
    outcome = store.outcome(method, seed)
    assert outcome.status == "failed"
    assert "\n" not in outcome.reason
    return outcome.reason


# a search from beginning to end


def test_the_choice_is_retrained_under_every_seed_of_the_study(methods, store, trainer):
    run(make_study("ones", seeds=[3, 5]), trainer)
    finals = [("final", "retraining, seed 3", 3), ("final", "retraining, seed 5", 5)]
    for seed in (3, 5):
        candidates = [("candidate", f"candidate {number}", None) for number in range(1, 5)]
        assert told(store, "ones", seed) == candidates + finals
    finals = [work.job for work in trainer.ran if work.kind == "final"]
    assert len({job.seed for job in finals}) == 2
    assert len(finals) == 2 * len({job.architecture for job in finals})
    assert all(job.test and job.training == make_study("ones").training for job in finals)


def test_the_end_of_a_search_says_what_was_chosen(methods, store, trainer):
    found = built(methods, lambda problem: Toy(problem, ONES))
    study = run(make_study("toy", seeds=[0]), trainer)
    outcome, best = store.outcome("toy"), found[0].best()
    assert (outcome.status, outcome.reason, outcome.evaluations) == ("done", "", 4)
    assert Architecture.from_json(outcome.architecture) == best
    assert (outcome.architecture_id, outcome.parameters, outcome.budget) == (best.id, 10, BUDGET)
    (search,) = study.searches
    dev = max(one.metrics["accuracy"] for one in store.jobs.values())
    assert search.summary == f"toy, t, seed 0: 1 modules of 8 slots, 10 parameters, best dev accuracy {dev:.4f}"


def test_methods_never_see_a_test_metric_but_the_store_has_it(methods, store, trainer):
    class Curious(Toy):
        def _search(self, batches):
            yield from super()._search(batches)
            job = self.problem.final_job(self.architecture, self.problem.seed)
            results = yield (Work(job, "final", "my own retraining"),)
            self.seen += results.values()

    found = built(methods, lambda problem: Curious(problem, ONES))
    run(make_study("toy"), trainer)
    assert [len(method.seen) for method in found] == [5, 5]
    assert all(result.metrics and not result.test for method in found for result in method.seen)
    finals = [one.job_id for one in store.requests.values() if one.kind == "final"]
    assert all(store.jobs[job_id].test for job_id in finals)


def test_a_retraining_that_the_method_asked_for_itself_is_not_run_again(methods, store, trainer):
    run(make_study("prune", seeds=[0, 1]), trainer)
    finals = [work for work in trainer.ran if work.kind == "final"]
    assert len({work.job.id for work in finals}) == len(finals)
    assert told(store, "prune")[-2:] == [("final", "final retraining", 0), ("final", "retraining, seed 1", 1)]
    assert told(store, "prune", 1)[-2:] == [("final", "final retraining", 1), ("final", "retraining, seed 0", 0)]


def test_decisions_are_stored_once_each(methods, store, trainer):
    run(make_study("prune", seeds=[0]), trainer)
    rounds = [decision for decision in store.decisions if decision.step == "round"]
    assert sum(decision.removed for decision in rounds) == 4
    assert len(set(store.decisions)) == len(store.decisions) > len(rounds)


def test_a_method_is_given_its_own_number_of_evaluations(methods, store, trainer):
    found = built(methods, lambda problem: Toy(problem, ONES))
    run(make_study({"name": "toy", "label": "a", "evaluations": 7}, {"name": "toy", "label": "b"}, seeds=[0]), trainer)
    assert [method.problem.evaluations for method in found] == [7, 20]


# limits


def test_an_epoch_limit_ends_the_search_and_the_best_so_far_is_taken(methods, store, trainer):
    run(make_study("ones", seeds=[0], limits={"epochs": 3}), trainer)
    assert labels(trainer) == ["candidate 1", "candidate 2", "candidate 3", "retraining, seed 0"]
    # the second batch is not complete: what the method chooses is of the first
    values = {work.job.architecture.id: store.jobs[work.job.id].metrics["accuracy"] for work in trainer.ran[:2]}
    assert store.outcome("ones").architecture_id == max(values, key=values.get)
    assert store.outcome("ones").evaluations == 3


def test_epochs_are_counted_in_passes_over_the_training_split(methods, store, trainer):
    study = make_study("ones", seeds=[0], limits={"epochs": 1}, candidate={"train_size": 40, "epochs": 1})
    run(study, trainer)
    # 40, 80 and 120 of 100 examples
    assert labels(trainer)[:-1] == ["candidate 1", "candidate 2", "candidate 3"]


def test_a_subset_larger_than_the_training_split_counts_as_all_of_it(methods, store, trainer):
    study = make_study("ones", seeds=[0], limits={"epochs": 2}, candidate={"train_size": 10 * TRAIN_SIZE})
    run(study, trainer)
    assert labels(trainer)[:-1] == ["candidate 1", "candidate 2"]


def test_a_limit_of_seconds_ends_the_search_and_counts_no_retraining(methods, store, trainer):
    trainer.seconds = 10.0
    run(make_study("order", seeds=[0, 1], limits={"seconds": 35}), trainer)
    # the fourth result is beyond the limit; the two that run by then are told all the same
    for seed in (0, 1):
        assert [kind for kind, _, _ in told(store, "order", seed)] == ["candidate"] * 6 + ["final"] * 2
    assert store.outcome("order").status == "done"


def test_a_search_that_a_limit_ends_over_the_budget_fails(methods, store, trainer):
    run(make_study("prune", seeds=[0], limits={"epochs": 1}), trainer)
    assert failure(store, "prune") == (
        "a limit of the study ended the search before it was within the budget: 80 parameters, but the budget is 40"
    )
    assert not [work for work in trainer.ran if work.kind == "final"]


def test_a_method_gets_no_more_candidates_than_the_study_allows(methods, store, trainer):
    greedy = [[filled(place)] for place in range(8)]
    methods(greedy=toys(*greedy), batch=toys([one for (one,) in greedy]))
    run(make_study("greedy", "batch", seeds=[0], limits={"evaluations": 5}), trainer)
    for method in ("greedy", "batch"):
        assert [label for kind, label, _ in told(store, method) if kind == "candidate"] == [
            f"candidate {number}" for number in range(1, 6)
        ]
        assert store.outcome(method).evaluations == 5
    assert store.outcome("greedy").status == "done"


def test_training_a_candidate_for_longer_is_no_further_evaluation(methods, store, trainer):
    class Rungs(Toy):
        def _search(self, batches):
            yield from super()._search(batches)
            for epochs in (2, 4):
                yield (self.problem.candidate_work(self.architecture, f"for {epochs} epochs", epochs=epochs),)

    built(methods, lambda problem: Rungs(problem, ONES))
    run(make_study("toy", seeds=[0], limits={"evaluations": 4}), trainer)
    assert labels(trainer)[-3:] == ["for 2 epochs", "for 4 epochs", "retraining, seed 0"]
    assert store.outcome("toy").evaluations == 4


# budget


def test_a_choice_over_the_budget_is_refused(methods, store, trainer):
    methods(large=toys([filled(0, 1, 2, 3, 4)]))
    run(make_study("large", seeds=[0]), trainer)
    assert failure(store, "large") == "50 parameters, but the budget is 40"
    assert labels(trainer) == ["candidate 1"]


def test_a_reference_may_be_over_the_budget(methods, store, trainer):
    methods(large=toys([filled(0, 1, 2, 3, 4)], reference=True))
    run(make_study("large", seeds=[0]), trainer)
    outcome = store.outcome("large")
    assert (outcome.status, outcome.parameters, outcome.reference) == ("done", 50, True)


def test_a_choice_exactly_at_the_budget_is_taken(methods, store, trainer):
    methods(exact=toys([filled(0, 1, 2, 3)]))
    run(make_study("exact", seeds=[0]), trainer)
    assert (store.outcome("exact").status, store.outcome("exact").parameters) == ("done", BUDGET)


def test_torch_has_the_last_word_on_the_budget(methods, store, trainer):
    trainer.parameters = lambda work: 41 if work.kind == "final" else 10
    run(make_study("ones", seeds=[0, 1]), trainer)
    for seed in (0, 1):
        assert failure(store, "ones", seed) == "retrained with 41 parameters: over the budget of 40"
    methods(free=toys(*ONES, reference=True))
    run(make_study("free", seeds=[0], budget="39"), trainer)
    assert store.outcome("free").status == "done"


def test_candidates_over_the_budget_do_not_count_as_the_best_so_far(methods, trainer):
    methods(mixed=toys([filled(0)], [filled(*range(5))]))
    (search,) = run(make_study("mixed", seeds=[0]), trainer).searches
    within = [work.job.id for work in trainer.ran if len(work.job.architecture) < 5]
    assert search.best_value == max(trainer.store.jobs[job_id].metrics["accuracy"] for job_id in within)


# failures


def test_a_failed_candidate_is_worth_nothing_and_the_search_goes_on(methods, store, trainer):
    found = built(methods, lambda problem: Toy(problem, ONES))
    trainer.failing = ["candidate 2"]
    run(make_study("toy", seeds=[0]), trainer)
    assert store.outcome("toy").status == "done"
    assert [result.status for result in found[0].seen] == ["done", "failed", "done", "done"]
    assert store.outcome("toy").evaluations == 4


def test_a_failed_pruning_round_fails_that_search_alone(methods, store, trainer):
    trainer.failing = ["round 2/2"]
    (pruning, ones) = run(make_study("prune", "ones", seeds=[0]), trainer).searches
    reason = failure(store, "prune")
    assert reason.startswith("round 2/2 (job ")
    assert reason.endswith("failed: out of memory")
    assert (pruning.state, ones.state) == ("failed", "done")
    assert pruning.summary == f"prune, t, seed 0: failed: {reason}"


def test_a_failed_retraining_fails_the_search(methods, store, trainer):
    trainer.failing = ["retraining, seed 1"]
    run(make_study("ones", seeds=[0, 1]), trainer)
    assert failure(store, "ones") == "retraining, seed 1 failed: out of memory"
    # what ran for it all the same is charged to it
    assert [kind for kind, _, _ in told(store, "ones")] == ["candidate"] * 4 + ["final"] * 2


@pytest.mark.parametrize("where", ["build", "ask", "tell", "decisions", "done", "best"])
@pytest.mark.parametrize("error", [ValueError("two\nlines"), InputError("no good"), AssertionError()])
def test_a_method_that_raises_fails_alone(methods, store, trainer, where, error):
    methods(toy=MethodInfo("toy", lambda problem, options: Raising(problem, where, error)))
    ends = []
    run(make_study("toy", "ones", seeds=[0]), trainer, lambda search: ends.append(search.cell.method.label))
    said = {"two\nlines": "ValueError: two lines", "no good": "no good", "": "AssertionError: AssertionError"}
    assert failure(store) == said[str(error)]
    assert store.outcome("ones").status == "done"
    assert sorted(ends) == ["ones", "toy"]


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"best": lambda self: None}, "'NoneType'"),
        ({"best": lambda self: "PA.0"}, "ValueError"),
        ({"ask": lambda self: None}, "'NoneType'"),
        ({"ask": lambda self: ("PA.0",)}, "'str' object has no attribute 'job'"),
        ({"ask": lambda self: ()}, "waits for results, but nothing is running"),
        ({"decisions": property(lambda self: None)}, "'NoneType'"),
    ],
    ids=["chooses nothing", "chooses text", "asks None", "asks text", "waits", "decisions"],
)
def test_a_method_that_answers_nonsense_fails_alone(methods, store, trainer, answers, says):
    kind = type("Nonsense", (OrderToy,), answers)
    built(methods, kind)
    searches = run(make_study("toy", "ones", seeds=[0]), trainer).searches
    assert says in failure(store)
    assert [search.state for search in searches] == ["failed", "done"]


NOWHERE = Architecture.of({Slot(9, "SA"): Module("pfeiffer", 1)})
MISFIT = Architecture.of({Slot(0, "SA"): Module("lora", 1)})
UNKNOWN = Architecture.of({Slot(0, "SA"): Module("lor", 1)})


@pytest.mark.parametrize(
    ("architecture", "says"),
    [
        (NOWHERE, "slot SA.9 does not exist: the backbone has 4 layers"),
        (MISFIT, "slot SA.0 cannot hold a 'lora'"),
        (UNKNOWN, "did you mean 'lora'"),
    ],
    ids=["layer", "module type", "unknown type"],
)
@pytest.mark.parametrize("chosen", [False, True], ids=["candidate", "choice"])
def test_an_architecture_that_no_backbone_can_hold_is_not_trained(methods, store, trainer, architecture, says, chosen):
    built(methods, lambda problem: Wrong(problem, architecture) if chosen else Toy(problem, [[architecture]]))
    run(make_study("toy", "ones", seeds=[0]), trainer)
    assert says in failure(store)
    assert all(work.job.architecture != architecture for work in trainer.ran)
    assert store.outcome("ones").status == "done"


class Wrong(Toy):
    """Chooses what it is told to."""

    def __init__(self, problem, choice):
        self.choice = choice
        super().__init__(problem, [[filled(0)]])

    def best(self):
        return self.choice


def test_a_job_that_is_asked_for_again_while_it_runs_is_told_once(methods, store, trainer):
    class Insisting(OrderToy):
        def ask(self):
            fresh = super().ask()
            self.running = [*getattr(self, "running", []), *fresh]
            return tuple(piece for piece in self.running if piece.job.id not in self.told) * 2

    found = built(methods, Insisting)
    run(make_study("toy", seeds=[0]), trainer)
    assert store.outcome("toy").status == "done"
    assert len(trainer.ids) == len(set(trainer.ids)) == 9
    assert len(found[0].told) == 8


def test_a_candidate_cannot_escape_the_account_as_a_final_retraining(methods, store, trainer):
    def disguised(problem):
        pieces = [replace(problem.candidate_work(one, "cheap"), kind="final") for one in ONES[0]]
        steps = iter([tuple(pieces)])
        return GeneratorMethod((batch for batch in steps), filled(0))

    built(methods, disguised)
    run(make_study("toy", seeds=[0]), trainer)
    assert "expected problem.final_job" in failure(store)
    assert trainer.ran == []


def test_a_method_must_choose_what_it_had_retrained(methods, store, trainer):
    def fickle(problem):
        work = [Work(problem.final_job(one, problem.seed), "final", "a try") for one in ONES[0]]
        return GeneratorMethod((batch for batch in [tuple(work)]), filled(0))

    built(methods, fickle)
    run(make_study("toy", seeds=[0]), trainer)
    assert failure(store) == "the method had a different architecture retrained than the one it chose"


# going on


def test_a_finished_search_is_not_asked_again(methods, store, trainer):
    run(make_study("ones", seeds=[0]), trainer)
    methods(ones=MethodInfo("toy", lambda problem, options: pytest.fail("built again")))
    before, count = dict(store.requests), len(trainer.ran)
    ends = []
    (search,) = run(make_study("ones", seeds=[0]), trainer, ends.append).searches
    assert (search.state, search.told, search.jobs_left) == ("done", 5, 0)
    assert search.best_value == max(result.metrics["accuracy"] for result in store.jobs.values())
    assert (store.requests, len(trainer.ran), ends) == (before, count, [])


def test_a_seed_added_to_a_finished_search_retrains_its_choice_alone(methods, store, trainer):
    run(make_study("ones", seeds=[0]), trainer)
    chosen, count = store.outcome("ones"), len(trainer.ran)
    run(make_study("ones", seeds=[0, 1]), trainer)
    fresh = trainer.ran[count:]
    assert told(store, "ones")[4:] == [("final", "retraining, seed 0", 0), ("final", "retraining, seed 1", 1)]
    assert store.outcome("ones") == chosen
    ours = [work for work in fresh if work.job.architecture.id == chosen.architecture_id and work.kind == "final"]
    assert {work.label for work in ours} >= {"retraining, seed 1"}
    assert len({work.job.id for work in trainer.ran}) == len(trainer.ran)
    assert len([work for work in fresh if work.kind == "candidate"]) == 4


def test_a_retraining_that_failed_just_before_a_kill_fails_the_search_after_it(methods, store, trainer):
    trainer.failing = ["retraining, seed 1"]
    run(make_study("ones", seeds=[0, 1]), trainer)
    whole = store.state()
    # killed after the request of the retraining, before the end of the search
    for key, outcome in store.searches.items():
        store.searches[key] = replace(outcome, status="done", reason="")
    run(make_study("ones", seeds=[0, 1]), trainer)
    assert failure(store, "ones") == "retraining, seed 1 failed: out of memory"
    assert store.state() == whole


def test_a_retraining_over_the_budget_just_before_a_kill_fails_the_search_after_it(methods, store, trainer):
    trainer.parameters = lambda work: 41 if work.kind == "final" else 10
    run(make_study("ones", seeds=[0]), trainer)
    key, outcome = next(iter(store.searches.items()))
    store.searches[key] = replace(outcome, status="done", reason="")
    run(make_study("ones", seeds=[0]), trainer)
    assert "over the budget" in failure(store, "ones")


def test_a_search_whose_method_was_mended_goes_on(methods, store, trainer):
    class Broken(OrderToy):
        def tell(self, job, result):
            if len(self.told) == 4:
                raise ValueError("a bug")
            super().tell(job, result)

    built(methods, Broken)
    run(make_study("toy", seeds=[0]), trainer)
    assert failure(store) == "ValueError: a bug"
    # of the two more that were asked for by then, none, one or both had begun
    assert 5 <= len(trainer.ran) <= 7
    built(methods, OrderToy)
    run(make_study("toy", seeds=[0]), trainer)
    assert store.outcome("toy").status == "done"
    assert len(trainer.ran) == 9


def test_a_failed_search_leaves_nothing_to_run(methods, store, trainer):
    trainer.failing = ["candidate 1"]
    built(methods, lambda problem: Toy(problem, ONES, keep_failures=False))
    run(make_study("toy", seeds=[0]), trainer)
    # the second may have begun before the first was told
    assert labels(trainer)[:1] == ["candidate 1"]
    assert len(labels(trainer)) <= 2
    setting = make_setting(make_study("toy", seeds=[0]), next(make_study("toy", seeds=[0]).cells()))
    search = StudySearch(setting, store, store.told(setting))
    assert search.begin() == []
    assert (search.state, search.has_progressed, search.jobs_left) == ("failed", False, 0)


def test_a_method_that_changed_its_mind_is_not_mixed_up_with_what_it_was(methods, store, trainer):
    methods(toy=toys(*ONES))
    trainer.kill = (3, True)
    with pytest.raises(Killed):
        run(make_study("toy", seeds=[0]), trainer)
    before = dict(store.requests)
    assert len(before) >= 1
    trainer.kill = None
    methods(toy=toys([filled(6)], [filled(7)]))
    run(make_study("toy", seeds=[0]), trainer)
    reason = failure(store)
    assert "was its result number 1" in reason
    assert "give it another label" in reason
    assert store.requests == before


def test_what_the_store_knows_already_is_told_in_the_order_of_before(methods, store, trainer):
    found = built(methods, OrderToy)
    setting = make_setting(make_study("toy", seeds=[0]), next(make_study("toy", seeds=[0]).cells()))
    search = StudySearch(setting, store)
    waiting = {work.job.id: work for work in search.begin()}
    told_ids = []
    # told from the last to the first
    while not search.ended:
        job_id = list(waiting)[-1]
        told_ids.append(job_id)
        store.jobs[job_id] = trainer.result(waiting.pop(job_id))
        waiting |= {work.job.id: work for work in search.tell(job_id, store.jobs[job_id])}
    store.searches.clear()
    again = StudySearch(setting, store, store.told(setting))
    assert again.begin() == []
    assert again.state == "done"
    assert [one.job_id for one in store.told(setting)] == told_ids
    assert found[0].told == found[1].told
    assert found[0].proposed == found[1].proposed
    assert (again.told, again.examples, again.best_value) == (search.told, search.examples, search.best_value)


def test_jobs_left_are_known_where_the_method_says_how_many_it_plans(methods, store, trainer):
    study = make_study("order", "ones", seeds=[0, 1])
    planned, unknown = (StudySearch(make_setting(study, cell), store) for cell in list(study.cells())[:2])
    assert planned.jobs_left is None
    work, _ = planned.begin(), unknown.begin()
    assert (planned.jobs_left, unknown.jobs_left) == (10, None)
    planned.tell(work[0].job.id, trainer.result(work[0]))
    assert planned.jobs_left == 9


def test_bad_decisions_fail_the_search_alone(methods, store, trainer):
    class Confused(OrderToy):
        decisions = (Decision("round", 1, "XX.0", "0.XX", (), 0.5, False, "j"),)

    built(methods, Confused)
    run(make_study("toy", "ones", seeds=[0]), trainer)
    assert "is not a slot" in failure(store)
    assert store.outcome("ones").status == "done"


def test_pruning_in_a_study_finds_what_a_search_finds(methods, store, trainer):
    study = make_study("prune", seeds=[0])
    run(study, trainer)
    problem = make_setting(study, next(study.cells())).problem
    alone, waiting = PrunePEFT(problem.spec, problem.space, problem.budget, problem.template), []
    while not alone.done:
        waiting += alone.ask()
        piece = waiting.pop(0)
        alone.tell(piece.job, trainer.result(piece))
    assert store.outcome("prune").architecture_id == alone.best().id
