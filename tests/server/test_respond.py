"""What a client is told of a row without an answer."""

import pytest
import torch

from remask import RemaskError
from remask.engine.request import Update
from remask.server.respond import failed


@pytest.mark.parametrize(
    ("reason", "error", "status", "told"),
    [
        ("deadline", None, 504, "the answer took longer than this server allows; ask for fewer tokens, or a faster decoder"),
        ("error", RemaskError("NaN logits at step 3"), 400, "NaN logits at step 3"),
        ("error", ZeroDivisionError("/a/path"), 500, "the row failed inside the server"),
        ("cancelled", None, 503, "the server is stopping; ask again"),
    ],
)
def test_a_row_that_failed_has_its_status_and_no_words_of_the_inside(reason, error, status, told):
    none = torch.zeros(2, dtype=torch.bool)
    refused = failed(Update(torch.zeros(2, dtype=torch.int64), none, none, none, none, 0, 2, 0, 0, done=True, reason=reason, error=error))
    assert (refused.status, str(refused)) == (status, told)
