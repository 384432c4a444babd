from dataclasses import replace

import numpy as np
import pytest
from tiny import make_tiny_model
from training_toys import make_job, toy_split, train_alone

from prunepeft_ray.errors import InputError
from prunepeft_ray.modules import AdapterConfig, save_adapter
from prunepeft_ray.training import load_adapter

FAST = {"PA": 0.03, "SA": 0.03, "head": 0.03}


def save(folder, model, backbone, task):
    """Train a job and save its adapter; returns the result."""
    job = make_job(backbone, task, epochs=4, learning_rates=FAST, test=True)
    trained = train_alone(job, backbone, task)
    data = task.data
    config = AdapterConfig(
        model=model,
        model_fingerprint=backbone.fingerprint,
        task=data.name,
        labels=data.labels,
        metrics=data.metrics,
        max_length=32,
        architecture=job.architecture,
        modules=job.modules,
    )
    save_adapter(folder, trained.state, config, "# card\n")
    return trained.result


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tiny_bert, backbone, task):
    folder = tmp_path_factory.mktemp("run")
    return folder, save(folder / "adapter", tiny_bert, backbone, task)


@pytest.fixture
def predictor(saved):
    predictor = load_adapter(saved[0])
    yield predictor
    predictor.close()


def test_a_loaded_adapter_measures_what_training_measured(saved, predictor, task):
    assert predictor.evaluate(task.data.dev) == pytest.approx(saved[1].metrics, abs=1e-6)
    assert predictor.evaluate(task.data.test) == pytest.approx(saved[1].test, abs=1e-6)


def test_predictions_are_names_and_probabilities(predictor, task):
    found = predictor.predict(["love love best good", "war war against black"])
    assert [prediction.label for prediction in found] == ["good", "bad"]
    assert all(0.5 <= prediction.value <= 1 for prediction in found)
    logits = predictor.logits(task.data.dev).astype(np.float64)
    by_hand = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).max(axis=1)
    again = predictor.predict(task.data.dev.texts)
    assert [prediction.value for prediction in again] == pytest.approx(by_hand.tolist(), rel=1e-5)
    names = [task.data.labels[i] for i in logits.argmax(axis=1)]
    assert [prediction.label for prediction in again] == names


def test_predictions_do_not_depend_on_company_or_order(predictor, task):
    texts = task.data.dev.texts
    together = predictor.predict(texts)
    alone = [predictor.predict([text])[0] for text in texts[:5]]
    assert [p.value for p in alone] == pytest.approx([p.value for p in together[:5]], abs=1e-5)
    turned = predictor.predict(texts[::-1])[::-1]
    assert [p.value for p in turned] == pytest.approx([p.value for p in together], abs=1e-5)


def test_texts_that_are_cut_are_counted_once(predictor):
    told = []
    predictor.predict(["film " * 40, "film " * 50, "no"], tell=told.append)
    assert told == ["texts of more than 32 tokens (training.max_length) are truncated: 2 of 3"]
    predictor.predict(["no"], tell=told.append)
    assert len(told) == 1


def test_nothing_to_predict_gives_no_predictions(predictor):
    assert predictor.predict([]) == []


def test_nothing_to_evaluate_is_wrong_input(predictor, task):
    with pytest.raises(InputError, match="no example"):
        predictor.evaluate(task.data.dev.take([]))


def test_closing_gives_the_backbone_back(saved, backbone, task):
    before = train_alone(make_job(backbone, task, epochs=1), backbone, task).result.metrics
    load_adapter(saved[0] / "adapter").close()
    assert not backbone.adapted
    assert train_alone(make_job(backbone, task, epochs=1), backbone, task).result.metrics == before


def test_another_backbone_is_refused(saved, backbone, tmp_path):
    other = make_tiny_model("bert", tmp_path / "other", seed=1)
    with pytest.raises(InputError, match="different weights") as caught:
        load_adapter(saved[0], str(other))
    assert backbone.fingerprint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_backbone_may_have_moved(saved, task, tmp_path):
    moved = make_tiny_model("bert", tmp_path / "moved")
    predictor = load_adapter(saved[0], str(moved))
    assert predictor.evaluate(task.data.dev) == pytest.approx(saved[1].metrics, abs=1e-6)
    predictor.close()


def test_a_folder_without_adapter_is_wrong_input(tmp_path):
    with pytest.raises(InputError, match="contains no adapter"):
        load_adapter(tmp_path)


def test_numbers_are_predicted_and_measured(tmp_path, tiny_bert, backbone, regression_task):
    result = save(tmp_path, tiny_bert, backbone, regression_task)
    predictor = load_adapter(tmp_path)
    assert predictor.evaluate(regression_task.data.test) == pytest.approx(result.test, abs=1e-6)
    low, high = predictor.predict(["war war war black", "love love love good"])
    predictor.close()
    assert low.label is high.label is None
    assert high.value > low.value


def test_pairs_are_predicted(saved, predictor):
    pairs = toy_split(6, 0, pairs=True)
    found = predictor.predict(pairs.texts, pairs.texts2)
    logits = predictor.logits(pairs)
    assert [p.label for p in found] == [("bad", "good")[i] for i in logits.argmax(axis=1)]
    single = predictor.logits(replace(pairs, texts2=None))
    assert not np.allclose(logits, single)
