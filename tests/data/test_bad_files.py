"""Wrong and hostile files of CIFAR-10 and of text: refused in one line that says what is wrong and where."""

import os
import pickle

import numpy as np
import pytest

from mbtrain.data.cifar10 import Cifar10
from mbtrain.data.text import Text
from mbtrain.data.text_lines import TextLines
from mbtrain.plan.refused import Refused
from tests.data.cifar_files import FOLDER, NAMES, batch, images, labels, write_archive, write_folder


class Calls:
    """Pickles to a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def cifar(content):
    def make(path):
        write_folder(path, {"data_batch_2": content})
        Cifar10(str(path)).splits()

    return make


def holding(data, numbers, protocol=4):
    return cifar(pickle.dumps({b"labels": numbers, b"data": data}, protocol=protocol))


def hostile(function, *arguments):
    return holding(Calls(function, *arguments), labels())


def archive(members, *, cut=None, links=None):
    def make(path):
        file = write_archive(path, members, links=links)
        file.write_bytes(file.read_bytes()[:cut])
        Cifar10(str(path)).splits()

    return make


def text(content, **changed):
    def make(path):
        (path / "mine.txt").write_bytes(content)
        options = {"context": 8, "stride": None, "shares": [0.8, 0.1, 0.1]} | changed
        Text(str(path), str(path / "mine.txt"), **options).splits()

    return make


def lines(content, max_length=None):
    def make(path):
        (path / "mine.txt").write_bytes(content)
        TextLines(str(path), str(path / "mine.txt"), max_length=max_length).splits()

    return make


def laughs():
    """A short pickle that is a list of 10 ** 9 numbers to whoever unfolds it."""
    nested = [0] * 10
    for _ in range(8):
        nested = [nested] * 10
    return nested


def without_a_batch(path):
    (write_folder(path) / "test_batch").unlink()
    Cifar10(str(path)).splits()


X = images("data_batch_2")
WHOLE = {f"{FOLDER}/{name}": batch(name) for name in NAMES}
GLOBAL = b"\x80\x02c%b\n%b\n(tR."

CASES = {
    # CIFAR-10
    "a truncated pickle": (cifar(batch()[:-40]), ["data_batch_2", "no batch of CIFAR-10"]),
    "an empty pickle": (cifar(b""), ["data_batch_2", "no batch"]),
    "a web page": (cifar(b"<html>no such file</html>"), ["data_batch_2", "no batch"]),
    "a list": (cifar(pickle.dumps([1])), ["data_batch_2", 'b"data"']),
    "no labels": (cifar(pickle.dumps({b"data": X})), ["data_batch_2", 'b"labels"']),
    "images of another size": (holding(X[:, :784], labels()), ["data_batch_2", "[n, 3072]"]),
    "images with dimensions": (holding(X.reshape(4, 3, 32, 32), labels()), ["data_batch_2", "[n, 3072]"]),
    "images of floats": (holding(X.astype(np.float32), labels()), ["data_batch_2", "uint8"]),
    "images by column": (holding(np.asfortranarray(X), labels()), ["data_batch_2", "uint8"]),
    "images of objects": (holding(np.array([[None] * 3072] * 4), labels()), ["data_batch_2", "uint8"]),
    "no images": (holding(X[:0], []), ["data_batch_2", "uint8"]),
    "too few labels": (holding(X, labels(3)), ["data_batch_2", "3 labels", "4 images"]),
    "label 10": (holding(X, [0, 1, 2, 10]), ["data_batch_2", "from 0 to 9"]),
    "label -1": (holding(X, [0, 1, 2, -1]), ["data_batch_2", "from 0 to 9"]),
    "labels of text": (holding(X, ["cat"] * 4), ["data_batch_2", "from 0 to 9"]),
    "labels without end": (holding(X, laughs()), ["data_batch_2", "from 0 to 9"]),
    "a batch missing": (without_a_batch, [FOLDER, "lacks test_batch"]),
    "a truncated archive": (archive(WHOLE, cut=-4000), ["cifar-10-python.tar.gz", "delete it"]),
    "no archive": (archive(WHOLE, cut=3), ["cifar-10-python.tar.gz", "delete it"]),
    "an archive of links": (
        archive({}, links={f"{FOLDER}/{name}": "/etc/passwd" for name in NAMES}),
        ["cifar-10-python.tar.gz", "lacks data_batch_1"],
    ),
    "another archive": (archive({"readme": b"x"}), ["cifar-10-python.tar.gz", "lacks data_batch_1"]),
    # hostile pickles
    "a pickle that calls the system": (hostile(os.system, "touch evil"), ["data_batch_2", "system"]),
    "a pickle that evaluates": (hostile(eval, "open('evil', 'w')"), ["data_batch_2", "builtins.eval"]),
    "a pickle that calls numpy": (hostile(np.save, "evil", 1), ["data_batch_2", "numpy.save"]),
    "a pickle that reaches through numpy": (cifar(GLOBAL % (b"numpy", b"ndarray.tofile")), ["numpy.ndarray.tofile"]),
    "a pickle of a persistent object": (cifar(b"\x80\x02U\x01aQ."), ["data_batch_2", "persistent"]),
    "a pickle that changes a class": (
        cifar(b"\x80\x02cnumpy\ndtype\n}U\x08__init__K\x01sb."),
        ["data_batch_2", "no batch"],
    ),
    # text
    "an empty text": (text(b""), ["mine.txt", "no text"]),
    "a blank text": (text(b" \n\n"), ["mine.txt", "no text"]),
    "text that is no text": (text(b"\xff\xfe\x00" * 99), ["mine.txt", "UTF-8"]),
    "no such text": (
        lambda path: Text("", str(path / "none.txt"), context=8, stride=None, shares=[1, 0, 0]).splits(),
        ["dataset.path=", "none.txt", "no such file"],
    ),
    "a folder": (lambda path: TextLines("", str(path), max_length=None).splits(), ["cannot be read as text"]),
    "a context longer than the text": (text(b"to be " * 9, context=99), ["dataset.context=99", "train part"]),
    "a context longer than a part": (text(b"to be " * 9), ["dataset.context=8", "validation part", "6 characters"]),
    "a context of 1": (text(b"to be " * 9, context=1), ["dataset.context=1", "at least 2"]),
    "a stride of 0": (text(b"to be " * 9, stride=0), ["dataset.stride=0"]),
    "two shares": (text(b"to be " * 9, shares=[0.9, 0.1]), ["dataset.shares=[0.9, 0.1]"]),
    "shares of more than all": (text(b"to be " * 9, shares=[0.9, 0.1, 0.1]), ["dataset.shares="]),
    "a share below 0": (text(b"to be " * 9, shares=[1.1, -0.1, 0]), ["dataset.shares="]),
    "no share to train on": (text(b"to be " * 9, shares=[0, 0.5, 0.5]), ["dataset.shares="]),
    "an empty text of lines": (lines(b"\n\n"), ["mine.txt", "no text"]),
    "lines of length 0": (lines(b"to be\n", max_length=0), ["dataset.max_length=0"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_refused_in_one_line_that_names_it(tmp_path, monkeypatch, case):
    make, fragments = CASES[case]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused) as refused:
        make(tmp_path)
    message = str(refused.value)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message
    assert not list(tmp_path.rglob("*evil*"))


def test_a_hostile_pickle_would_have_run_where_pickle_reads_it(tmp_path, monkeypatch):
    """The attack above is a real one: pickle itself runs it."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Calls(eval, "open('evil', 'w').close()")))
    assert (tmp_path / "evil").is_file()
